"""Optimizers: weights and state over seven steps."""

from __future__ import annotations

import jax.numpy as jnp
import keras
import numpy as np
from makers.recording import Case, drawn, write

STEPS = 7
DECAY = {"class_name": "ExponentialDecay",
         "config": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}}  # fmt: skip
ALL: list[Case] = [  # what every optimizer takes
    {"weight_decay": 0.04}, {"weight_decay": 0.04, "exclude": ["bias"]}, {"global_clipnorm": 0.5},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}, {"learning_rate": DECAY},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "weight_decay": 0.04},
]  # fmt: skip
MORE: list[Case] = [  # each alone, and how they go together; in two optimizers, as it is the same code
    {"clipnorm": 0.5}, {"clipvalue": 0.2}, {"use_ema": True, "ema_momentum": 0.9}, {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2},
    {"gradient_accumulation_steps": 2, "learning_rate": DECAY}, {"loss_scale_factor": 4.0},
    {"weight_decay": 0.04, "learning_rate": DECAY}, {"use_ema": True}, {"clipnorm": 100.0},
]  # fmt: skip
OPTIMIZERS: dict[str, list[Case]] = {
    "SGD": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"nesterov": True}, *MORE],
    "RMSprop": [{"momentum": 0.9}, {"centered": True},
                {"momentum": 0.5, "centered": True, "rho": 0.8, "epsilon": 1e-3}],
    "Adam": [{"amsgrad": True}, {"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}, *MORE],
    "AdamW": [{"amsgrad": True}], "Nadam": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adamax": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adagrad": [{"initial_accumulator_value": 0.0}, {"epsilon": 1e-3}], "Adadelta": [{"rho": 0.8, "epsilon": 1e-3}],
    "Ftrl": [{"l1_regularization_strength": 0.3}, {"l2_regularization_strength": 0.1, "beta": 0.2},
             {"l2_shrinkage_regularization_strength": 0.1}, {"learning_rate_power": -0.7}, {"learning_rate_power": 0.0},
             {"initial_accumulator_value": 0.0}],
    "Lion": [{"beta_1": 0.5, "beta_2": 0.8}], "Lamb": [{"beta_1": 0.5, "beta_2": 0.8, "epsilon": 1e-3}],
    "Adafactor": [{"relative_step": False}, {"beta_2_decay": -0.5, "epsilon_2": 0.1, "clip_threshold": 0.5},
                  {"learning_rate": 2.0}, {"learning_rate": 2.0, "relative_step": False}],
    "Muon": [{"nesterov": False}, {"ns_steps": 3, "momentum": 0.8}, {"rms_rate": None}, {"exclude_layers": ["kernel"]},
             {"adam_lr_ratio": 0.5, "adam_weight_decay": 0.1, "weight_decay": None}],
    "ScheduleFreeAdamW": [{"warmup_steps": 3}],
}  # fmt: skip


def optimizers() -> None:
    """The weights before (``weights``) and after each of seven steps, [steps][variable], from fixed gradients.

    ``slots`` has the optimizer's variables at the end, by name, in Keras's order; a name that comes twice gets _2.
    ``finalized`` has the weights after finalize_variable_values, where there is an average. The config "exclude" is
    what was given to exclude_from_weight_decay as var_names. Without a learning rate in a config it is the default
    in the empty one and 0.05 in the others; the config says so.
    """
    grads = [[drawn(100 + 2 * i, 4, 3), drawn(101 + 2 * i, 3)] for i in range(STEPS)]
    grads[2][0][1], grads[3][1][:] = 0.0, 0.0  # a unit that is dead for one step, a bias of gradient 0
    inputs: Case = {"kernel": drawn(90, 4, 3), "bias": drawn(91, 3)}
    inputs |= {
        f"g{i}_{name}": g for i, pair in enumerate(grads) for name, g in zip(("kernel", "bias"), pair, strict=True)
    }
    cases = []
    for name, special in OPTIMIZERS.items():
        for config in [{}, *({"learning_rate": 0.05} | c for c in special + ALL)]:
            keras.backend.clear_session()
            variables = [keras.Variable(inputs[n], dtype="float64", name=n) for n in ("kernel", "bias")]
            given = {k: v for k, v in config.items() if k != "exclude"}
            if isinstance(rate := given.get("learning_rate"), dict):
                given["learning_rate"] = getattr(keras.optimizers.schedules, rate["class_name"])(**rate["config"])
            optimizer = getattr(keras.optimizers, name)(**given)
            if "exclude" in config:
                optimizer.exclude_from_weight_decay(var_names=config["exclude"])
            steps = []
            for pair in grads:
                optimizer.apply([jnp.asarray(g) for g in pair], variables)
                steps.append([np.array(v) for v in variables])
            slots: Case = {}
            for v in optimizer.variables:
                if v.name not in ("iteration", "learning_rate"):
                    slots[v.name if v.name not in slots else f"{v.name}_2"] = np.array(v)
            expected = {"iterations": int(optimizer.iterations), "steps": steps, "slots": slots}
            if config.get("use_ema"):
                optimizer.finalize_variable_values(variables)
                expected["finalized"] = [np.array(v) for v in variables]
            given_names = {
                "weights": ["kernel", "bias"],
                "grads": [[f"g{i}_kernel", f"g{i}_bias"] for i in range(STEPS)],
            }
            cases.append({"name": name, "config": config, "inputs": given_names, "expected": expected, "marks": {}})
    write("optimizers", cases, inputs)
