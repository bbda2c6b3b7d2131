"""What the whole-fit kernel leaves to graphs, and why; launches that fail; data that is streamed."""

import os
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
from host.runtime import HostRuntime
from whole_fit import Case, Dense, assert_same_bits, by_kernel, by_numpy, force, launches_of, state, train

from gpumlp import Ensemble, callbacks, errors, layers
from gpumlp.engine import feed, fit_plan, fit_program
from gpumlp.errors import KernelError
from gpumlp.training import loop

# that the kernel was given up, which is told once in a process
pytestmark = pytest.mark.filterwarnings("ignore:The whole-fit kernel can:UserWarning")
PLAIN = Case(lambda: [Dense(5, "tanh"), Dense(6, "relu"), Dense(17)], samples=9, batch=4, threads=32)


@pytest.fixture(autouse=True)
def whole_epochs(monkeypatch):
    """An epoch is one launch, however slow it is here."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)


def assert_near(got, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-4, atol=1e-6, err_msg=name)


# ---- what it does not do ---------------------------------------------------------------------------------------------

UNSUPPORTED = {
    "it has a Dropout layer": {"stack": lambda: [Dense(5, "relu"), layers.Dropout(0.2, seed=3), Dense(2)]},
    "it has a Rescaling layer after the first layer": {
        "stack": lambda: [layers.Rescaling(0.5), Dense(5, "relu"), layers.Rescaling(0.5), Dense(2)]
    },
    "it has an activation over rows, such as softmax, before its last layer": {
        "stack": lambda: [Dense(5, "softmax"), Dense(2)]
    },
    "it has an Activation layer that does not follow a linear Dense": {
        "stack": lambda: [layers.Activation("tanh"), Dense(2)]
    },
    "do not fit on the chip": {"shared": 1000},
}  # fmt: skip


@pytest.mark.parametrize("why", UNSUPPORTED)
@pytest.mark.parametrize("exchange", ["auto", "tags"])
def test_what_it_cannot_do_is_left_to_graphs_and_says_why(gpu, monkeypatch, why, exchange):
    case = replace(PLAIN, **UNSUPPORTED[why])
    if case.shared:
        monkeypatch.setattr(gpu, "shared_bytes", case.shared, raising=False)
    monkeypatch.setenv("GPUMLP_FIT", exchange)
    launched = launches_of(gpu)
    model = case.build("cuda")
    found = train(case, model)
    assert why in model.program and "not the whole-fit kernel: " in model.program
    assert "CUDA graphs" in model.program and not any(name == "fit" for name, _ in launched)
    assert_near(found, by_numpy(case, "float32"))


def test_auto_takes_graphs_where_they_are_predicted_to_be_faster(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "auto")
    monkeypatch.setattr(fit_program.cost, "graph_seconds", lambda problem, machine: 0.0)
    model = PLAIN.build("cuda")
    train(PLAIN, model)
    assert "us, and 0.0 us as a graph" in model.program


def test_a_word_that_is_no_choice_is_an_error_that_lists_them(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "tag")
    model = PLAIN.build("cuda")
    before = model.get_weights()
    with pytest.raises(ValueError, match="GPUMLP_FIT must be one of auto, graph, tags, barrier; got 'tag'"):
        train(PLAIN, model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_graph_is_what_was_asked_for(gpu, monkeypatch):
    monkeypatch.setenv("GPUMLP_FIT", "graph")
    model = PLAIN.build("cuda")
    assert_near(train(PLAIN, model), by_numpy(PLAIN, "float32"))
    assert "not the whole-fit kernel: GPUMLP_FIT=graph" in model.program


def test_where_its_warning_is_an_error_the_next_fit_trains_as_graphs(as_gpu, monkeypatch):
    monkeypatch.setattr(errors, "_said", set())
    force(monkeypatch, PLAIN)
    as_gpu(failing(1))
    model = PLAIN.build("cuda")
    before = model.get_weights()
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="the device refuses"):
        warnings.simplefilter("error")
        train(PLAIN, model)
    assert "given up: the device refuses" in model.program
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert_near(train(PLAIN, model), by_numpy(PLAIN, "float32"))


# ---- launches that fail ----------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_compile_leaves_training_to_graphs_and_is_told_once(as_gpu, monkeypatch):
    """As where NVRTC is older than what fit.cu needs, which the other kernels do not."""
    monkeypatch.setattr(errors, "_said", set())

    class Old(HostRuntime):
        def launch(self, file, *arguments, **how):
            if file == "fit.cu":
                raise KernelError("NVRTC could not compile fit.cu for sm_90 (it is version 12.2):\nType .b128 ...")
            super().launch(file, *arguments, **how)

    as_gpu(Old())
    monkeypatch.setenv("GPUMLP_FIT", "auto")
    model = PLAIN.build("cuda")
    with pytest.warns(UserWarning, match=r"recorded steps, which are slower, .* \(it is version 12.2\):$") as said:
        first = train(PLAIN, model)
        train(PLAIN, model)
        train(PLAIN, PLAIN.build("cuda"))
    assert len(said) == 1
    assert "CUDA graphs" in model.program and "not the whole-fit kernel: given up: NVRTC could not" in model.program
    assert_near(first, by_numpy(PLAIN, "float32"))


def failing(at):
    """Return a runtime whose launch of "fit" number ``at``, from 1, fails before it has done anything."""

    class Failing(HostRuntime):
        fits = 0

        def launch(self, file, function, *arguments, **how):
            if function == "fit":
                self.fits += 1
                if self.fits == at:
                    self.launches += 1
                    raise KernelError("the device refuses")
            super().launch(file, function, *arguments, **how)

    return Failing()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_steps_of_a_launch_that_fails_are_done_by_graphs_once(as_gpu, monkeypatch, at, streamed):
    case = replace(PLAIN, samples=25, weighted=True, metrics=("mae",), weighted_metrics=("mse",))
    force(monkeypatch, case)
    monkeypatch.setattr(fit_program, "CAPACITY", 2)
    if streamed:
        monkeypatch.setattr(feed, "RESIDENT_SHARE", 0.0)
        monkeypatch.setattr(feed, "STAGE_BYTES", 2 * 4 * 21 * 4)  # of two batches
    as_gpu(failing(at))
    model = case.build("cuda")
    found = train(case, model, epochs=3)
    assert "not the whole-fit kernel: given up: the device refuses" in model.program
    assert model.optimizer.iterations == 21 and len(found["losses"]) == 21
    assert_near(found, by_numpy(case, "float32", epochs=3))


def test_members_of_an_ensemble_go_on_from_where_a_launch_failed(as_gpu, monkeypatch):

    force(monkeypatch, PLAIN)
    monkeypatch.setattr(fit_program, "CAPACITY", 2)
    x, y, _ = PLAIN.data(0)
    trained = []
    for at in (2, 0):
        as_gpu(failing(at))
        together = Ensemble(lambda: PLAIN.build("cuda"), 2)
        together.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
        trained.append([state(m) for m in together.members])
        assert ("device refuses" in together.program) == (at == 2)
        assert [m.optimizer.iterations for m in together.members] == [6, 6]
    for failed, right in zip(*trained, strict=True):
        assert_near(failed, right)


@pytest.mark.parametrize("at", [2, 3, 5])
def test_what_was_launched_before_a_launch_that_fails_is_not_trained_again(as_gpu, monkeypatch, at):
    """Of five members two have room at once: three launches for each two steps, of which one is refused."""
    case = replace(PLAIN, group=3)
    force(monkeypatch, case)
    monkeypatch.setattr(fit_program, "CAPACITY", 2)
    x, y, _ = case.data(0)
    trained = []
    for fails in (at, 0):
        runtime = as_gpu(failing(fails))
        together = Ensemble(lambda: case.build("cuda"), 5)
        histories = together.fit(x, y, batch_size=4, epochs=2, verbose=0)
        assert ("given up: the device refuses" in together.program) == bool(fails)
        assert fails or runtime.fits == 3 * 3
        assert [m.optimizer.iterations for m in together.members] == [6] * 5
        losses = [np.array(h.history["loss"]) for h in histories]
        trained.append([{**state(m), "loss": loss} for m, loss in zip(together.members, losses, strict=True)])
    for failed, right in zip(*trained, strict=True):
        assert_near(failed, right)


def test_a_block_that_waits_in_vain_leaves_everything_as_it_was(as_gpu, monkeypatch):
    """One block's packets never come; after its patience the launch ends, and the model is what it was."""
    monkeypatch.setattr(fit_plan, "PATIENCE", 50)
    for exchange, old in (("tags", "store_packet(packets, base() + at"), ("barrier", "add_release(arrivals, 0, 1)")):
        runtime = as_gpu(HostRuntime(mutate=lambda file, text, old=old: text.replace(old, f"if (tag < 5) {old}")))
        case = replace(PLAIN, exchange=exchange)
        force(monkeypatch, case)
        model = case.build("cuda")
        launched = launches_of(runtime)
        before = []
        give_up = fit_program.FitProgram._give_up

        def note(self, why, model=model, before=before, give_up=give_up):
            before.append((state(model), model.optimizer.iterations))
            give_up(self, why)

        monkeypatch.setattr(fit_program.FitProgram, "_give_up", note)
        first = train(case, model, epochs=1)
        assert model.program.startswith("whole-fit kernel")
        second = train(case, model, epochs=1)  # its second step is the fifth
        monkeypatch.setattr(fit_program.FitProgram, "_give_up", give_up)
        assert "waited for others in vain" in model.program
        ((there, iterations),) = before
        assert iterations == 3 and model.optimizer.iterations == 6
        assert_same_bits([there, first])
        whole = by_numpy(case, "float32", epochs=2)
        assert_near({name: second[name] for name in there}, {name: whole[name] for name in there})
        assert launched[0] == ("fit", 2)


def test_a_model_that_fails_beside_others_is_the_only_one_whose_steps_are_done_again(as_gpu, monkeypatch):
    """The groups of a launch do not wait for each other: what one has trained must not be trained once more."""
    monkeypatch.setattr(fit_plan, "PATIENCE", 50)
    force(monkeypatch, PLAIN)
    store = "store_packet(packets, base() + at"
    broken = f"if (tag < 5 || block_index() / GROUP != 1) {store}"  # the second model's packets, from its fifth step on
    x, y, _ = PLAIN.data(0)
    trained = []
    for fails in (True, False):
        as_gpu(HostRuntime(mutate=lambda file, text, new=broken if fails else store: text.replace(store, new)))
        together = Ensemble(lambda: PLAIN.build("cuda"), 3)
        histories = together.fit(x, y, batch_size=PLAIN.batch, epochs=3, verbose=0)
        assert ("in vain" in together.program) == fails
        assert len({m.optimizer.iterations for m in together.members}) == 1
        trained.append(
            [
                {**state(m), "loss": np.array(h.history["loss"])}
                for m, h in zip(together.members, histories, strict=True)
            ]
        )
    for failed, right in zip(*trained, strict=True):
        assert_near(failed, right)


def test_all_blocks_save_or_none(as_gpu, monkeypatch):
    """With hardly any patience some launches fail, at any place: what was saved by some is never left half done."""
    monkeypatch.setattr(fit_plan, "PATIENCE", 2)
    force(monkeypatch, replace(PLAIN, group=3))
    right, ways = by_numpy(PLAIN, "float32"), set()
    for seed in range(60):
        as_gpu(HostRuntime(seed))
        model = PLAIN.build("cuda")
        assert_near(train(PLAIN, model), right)
        ways.add("in vain" in model.program)
    assert ways == {False, True}


LOST = (
    "if constexpr (HANDS_ON) return collect<",
    "if constexpr (HANDS_ON) return (rank != 0 || step + 1 < steps) & collect<",
)


@pytest.mark.parametrize(
    ("more", "noticed"),
    [
        (("", ""), ""),
        (("            exchange.give_up();\n", ""), "the others wait"),
        (("well = count == awaited;", "well = true;"), "saved"),
    ],
    ids=["unbroken", "nobody is told", "nobody listens"],
)
def test_one_block_that_waits_in_vain_keeps_all_from_saving(as_gpu, monkeypatch, more, noticed):
    """The last packets of the last step do not come to one block; the others have all that they need."""
    force(monkeypatch, PLAIN)
    found = []

    def change(file, text):
        found.extend(old in text for old, _ in (LOST, more) if file == "fit.cu")
        return text.replace(*LOST).replace(*more) if more[0] else text.replace(*LOST)

    as_gpu(HostRuntime(mutate=change))
    model = PLAIN.build("cuda")
    got, right = train(PLAIN, model), by_numpy(PLAIN, "float32")
    assert found and all(found)
    if noticed == "the others wait":
        assert "deadlock" in model.program
        return
    if noticed == "saved":
        with pytest.raises(AssertionError):
            assert_near(got, right)
        return
    assert "waited for others in vain" in model.program
    assert_near(got, right)


def test_ctrl_c_ends_between_two_launches(gpu, monkeypatch):
    force(monkeypatch, PLAIN)
    runs = []
    for press in (True, False):
        model = PLAIN.build("cuda")

        def end(epoch, logs, press=press):
            if press and epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

        x, y, _ = PLAIN.data(0)
        hook = callbacks.LambdaCallback(on_epoch_begin=end)
        how = {"batch_size": 4, "shuffle": False, "verbose": 0, "callbacks": hook}
        if press:
            with pytest.raises(KeyboardInterrupt):
                model.fit(x, y, epochs=9, **how)
            assert len(model.history.history["loss"]) == 1
        else:
            model.fit(x, y, epochs=1, **how)
        assert model.optimizer.iterations == 3
        runs.append(state(model))
    assert_same_bits(runs)


# ---- beside training -----------------------------------------------------------------------------------------------


def test_what_is_between_two_launches_sees_the_weights_that_were_trained(gpu, monkeypatch):
    force(monkeypatch, PLAIN)
    once = by_kernel(PLAIN)
    x, y, _ = PLAIN.data(0)
    model, cpu, seen = PLAIN.build("cuda"), PLAIN.build("cpu"), []
    hook = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])))
    launched = launches_of(gpu)
    history = model.fit(
        x, y, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=hook, validation_data=(x[:5], y[:5])
    ).history
    assert [batch for batch, _ in seen] == [0, 1, 2, 0, 1, 2] and launched.count(("fit", 2)) == 6
    assert [seen[2][1], seen[5][1]] == history["loss"]
    assert_same_bits([{name: once[name] for name in ("weights", "m", "v")}, state(model)])
    cpu.set_weights(model.get_weights())
    np.testing.assert_allclose(model.predict(x, verbose=0), cpu.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(cpu.evaluate(x, y, verbose=0), rel=1e-5)
    assert history["val_loss"][1] == pytest.approx(cpu.evaluate(x[:5], y[:5], verbose=0), rel=1e-5)


def test_constants_and_rates_can_be_changed_between_fits(gpu, monkeypatch):
    force(monkeypatch, PLAIN)
    results = []
    for device in ("cpu", "cuda"):
        model = PLAIN.build(device)
        train(PLAIN, model)
        model.optimizer.beta_1, model.optimizer.learning_rate = 0.5, 0.01
        train(PLAIN, model)
        model.set_weights([w + 0.125 for w in model.get_weights()])
        results.append(train(PLAIN, model, epochs=1))
    assert_near(results[1], results[0])


@pytest.mark.parametrize("exchange", ["tags", "barrier"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_streamed_data_is_trained_in_parts_to_the_same_bits(as_gpu, monkeypatch, shuffle, exchange):
    case = replace(PLAIN, samples=25, weighted=True, metrics=("mae",), weighted_metrics=("mse",), exchange=exchange)
    force(monkeypatch, case)
    monkeypatch.setattr(feed, "STAGE_BYTES", 2 * 4 * 21 * 4)  # of two batches
    runs, counts = [], []
    for share in (0.75, 0.0):
        monkeypatch.setattr(feed, "RESIDENT_SHARE", share)
        runtime = as_gpu(HostRuntime())
        launched = launches_of(runtime)
        runs.append(by_kernel(case, epochs=3, shuffle=shuffle))
        counts.append(len(launched))
        assert set(launched) == {("fit", 2)} and bool(runtime.copies) == (share == 0.0)
    assert_same_bits(runs)
    assert counts == [1, 3 * 4]
