"""What the CPU's kernels have beyond plain Python: pointers, tiles of products in vector registers, a barrier, modes.

The only file that knows the processor, by what the package is compiled for (its ``TARGET``): everything else is scalar
code over pointers, whose loops LLVM turns into vector code. A tile of a matrix product is where that is not enough, as
its sums must stay in registers from the first product to the last; so both kinds of tile are written out here, for
every height.

Vectors are as wide as the processor has them: 16 float32 with AVX-512, 8 with AVX2, otherwise 4 (NEON, SSE).
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import TARGET

LANES = TARGET.lanes
_ARM = TARGET.name == "neon"
# An outer tile holds rows x vectors of sums in registers, beside as many vectors of b and one of a: what there is room
# for in 32 registers, or in 16. With few rows it is wider, so that there is something to do while a sum is added up.
_REGISTERS = 32 if LANES == 16 or _ARM else 16
ROWS = 14 if LANES == 16 else 12 if _ARM else 6
ROWS_OF_8, ROWS_OF_4 = (_REGISTERS - 5) // 8 - 1, (_REGISTERS - 5) // 4 - 1
COLUMNS = 2 * LANES  # of a tile of many rows
# A tile of so few rows waits for memory more than for arithmetic: the rows of b that it will need AHEAD steps later are
# asked for. So behind the end of a list of indices as many more must be readable.
AHEAD_ROWS, AHEAD, LINE = 2, 8, 16

# A dot tile holds about LANES vectors of sums, whose lanes are then added all at once.
DOT_ROWS = 5 if LANES == 16 else 4
DOT_SUMS = 8 if LANES == 8 else 16
PATIENCE = 256  # looks at a barrier, some 3 us, before a thread lets others have its core, one of its team perhaps

FLOATS, DOUBLES = types.CPointer(types.float32), types.CPointer(types.float64)
WORDS, BYTES = types.CPointer(types.int64), types.CPointer(types.uint8)

_F32, _I64, _I32, _I1, _VOID = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(1), ir.VoidType()
_VECTOR = ir.VectorType(_F32, LANES)
_MASK = ir.VectorType(_I1, LANES)


# No reference counts, no Python objects, no exceptions: what is compiled stands for itself. a * b + c is one rounding
# where the processor has it.
kernel = njit(
    error_model="numpy", fastmath={"contract"}, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
)


# ---- pointers --------------------------------------------------------------------------------------------------------
def _pointer(kind):
    @intrinsic
    def cast(typing, address):
        """The pointer to an address, or to what another pointer points to."""

        def code(context, builder, sig, args):
            turn = builder.inttoptr if isinstance(address, types.Integer) else builder.bitcast
            return turn(args[0], context.get_value_type(kind))

        return kind(types.int64 if isinstance(address, types.Integer) else address), code

    return cast


floats, doubles, words, octets = _pointer(FLOATS), _pointer(DOUBLES), _pointer(WORDS), _pointer(BYTES)


@intrinsic
def at(typing, pointer, offset):
    """The pointer ``offset`` elements further on."""

    def code(context, builder, sig, args):
        return builder.gep(args[0], [args[1]], source_etype=context.get_value_type(pointer.dtype))

    return pointer(pointer, types.int64), code


@intrinsic
def fetch(typing, place):
    """Ask for the cache line at a place that will be read later; any place may be asked for."""

    def code(context, builder, sig, args):
        _prefetch(builder, args[0])
        return context.get_dummy_value()

    return types.void(FLOATS), code


# ---- pieces of vector code -------------------------------------------------------------------------------------------
def _function(module, name, kinds):
    """Return a new function of the module to be filled, its builder, and its arguments; None where it is there."""
    if name in module.globals:
        return module.globals[name], None, ()
    function = ir.Function(module, ir.FunctionType(_VOID, kinds), name)
    function.linkage = "linkonce_odr"  # one of a name for all that use it
    function.attributes.add("noinline")
    return function, ir.IRBuilder(function.append_basic_block("entry")), function.args


def _declared(module, name, kind):
    return module.globals.get(name) or ir.Function(module, kind, name)


def _floats_type():
    return ir.PointerType(_F32)


def _offset(b, pointer, index):
    return b.gep(pointer, [index], source_etype=_F32)


def _load_vector(b, pointer, mask=None):
    if mask is None:
        value = b.load(b.bitcast(pointer, ir.PointerType(_VECTOR)), typ=_VECTOR)
        value.align = 4
        return value
    kind = ir.FunctionType(_VECTOR, [ir.PointerType(_VECTOR), _I32, _MASK, _VECTOR])
    load = _declared(b.module, f"llvm.masked.load.v{LANES}f32.p0", kind)
    return b.call(load, [b.bitcast(pointer, ir.PointerType(_VECTOR)), _I32(4), mask, _VECTOR(None)])


def _store_vector(b, value, pointer, mask=None):
    if mask is None:
        b.store(value, b.bitcast(pointer, ir.PointerType(value.type))).align = 4
        return
    kind = ir.FunctionType(_VOID, [_VECTOR, ir.PointerType(_VECTOR), _I32, _MASK])
    store = _declared(b.module, f"llvm.masked.store.v{LANES}f32.p0", kind)
    b.call(store, [value, b.bitcast(pointer, ir.PointerType(_VECTOR)), _I32(4), mask])


def _prefetch(b, pointer):
    octet = ir.PointerType(ir.IntType(8))
    kind = ir.FunctionType(_VOID, [octet, _I32, _I32, _I32])
    b.call(_declared(b.module, "llvm.prefetch.p0", kind), [b.bitcast(pointer, octet), _I32(0), _I32(3), _I32(1)])


def _splat(b, scalar, kind):
    lanes = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    single = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
    return b.shuffle_vector(single, ir.Constant(kind, ir.Undefined), lanes)


def _mask(b, count):
    """The mask of the first ``count`` lanes."""
    wide = ir.VectorType(_I64, LANES)
    return b.icmp_signed("<", ir.Constant(wide, list(range(LANES))), _splat(b, count, wide))


def _multiply_add(b, x, y, z):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return b.call(_declared(b.module, f"llvm.fmuladd.v{LANES}f32", kind), [x, y, z])


def _done(b, values):
    """Return the vectors, once they are computed: nothing that stands behind is loaded before.

    Left to itself, LLVM loads all factors of a column of the tile first, and runs out of registers.
    """
    register = "w" if _ARM else "v" if LANES == 16 else "x"
    constraint = ",".join([f"={register}"] * len(values) + [str(i) for i in range(len(values))] + ["~{memory}"])
    kind = ir.FunctionType(ir.LiteralStructType([_VECTOR] * len(values)), [_VECTOR] * len(values))
    if len(values) == 1:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return [b.asm(kind, "", constraint, values, True)]
    result = b.asm(kind, "", constraint, values, True)
    return [b.extract_value(result, i) for i in range(len(values))]


def _loop(b, count, sums, body):
    """Return what ``sums`` become over ``body(index, sums)`` for index 0 to ``count`` - 1; count may be 0."""
    before, head = b.block, b.append_basic_block("head")
    inside, after = b.append_basic_block("body"), b.append_basic_block("after")
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(_I64)
    index.add_incoming(_I64(0), before)
    carried = [b.phi(s.type) for s in sums]
    for phi, first in zip(carried, sums, strict=True):
        phi.add_incoming(first, before)
    b.cbranch(b.icmp_signed("<", index, count), inside, after)
    b.position_at_end(inside)
    results = body(index, carried)
    for phi, value in zip(carried, results, strict=True):
        phi.add_incoming(value, b.block)
    index.add_incoming(b.add(index, _I64(1)), b.block)
    b.branch(head)
    b.position_at_end(after)
    return carried


# ---- outer tiles: c = sum over k of a column of a times a row of b ---------------------------------------------------
def _vectors(rows):
    return 8 if rows <= ROWS_OF_8 else 4 if rows <= ROWS_OF_4 else 2


@kernel
def tile_columns(rows):
    """How many columns the widest outer tile of so many rows has."""
    return 8 * LANES if rows <= ROWS_OF_8 else 4 * LANES if rows <= ROWS_OF_4 else COLUMNS


def _outer_function(module, rows, full):
    """One tile: ``rows`` x `_vectors` if ``full``, otherwise one vector, of which ``count`` lanes are meant."""
    p = _floats_type()
    kinds = [p, _I64, p, p, _I64, _I64, p, _I64, ir.PointerType(_I64), _I64, _I64, _I64, _I64, _F32]
    function, b, args = _function(module, f"gpumlp_outer_{rows}_{'full' if full else 'part'}", kinds)
    if b is None:
        return function
    c, c_row, bias, a, a_row, a_step, right, right_step, index, steps, count, more, biased, least = args
    mask, vectors = (None, _vectors(rows)) if full else (_mask(b, count), 1)

    def place_of(k):
        return b.load(b.gep(index, [k], source_etype=_I64), typ=_I64)

    def body(k, sums):
        place = place_of(k)
        left, row = _offset(b, a, b.mul(place, a_step)), _offset(b, right, b.mul(place, right_step))
        if full and rows <= AHEAD_ROWS:
            ahead = _offset(b, right, b.mul(place_of(b.add(k, _I64(AHEAD))), right_step))
            for v in range(0, vectors, max(1, LINE // LANES)):
                _prefetch(b, _offset(b, ahead, _I64(v * LANES)))
        values = [_load_vector(b, _offset(b, row, _I64(v * LANES)), mask) for v in range(vectors)]
        out = []
        for r in range(rows):
            factor = _splat(b, b.load(_offset(b, left, b.mul(a_row, _I64(r))), typ=_F32), _VECTOR)
            row = [_multiply_add(b, factor, value, sums[r * vectors + v]) for v, value in enumerate(values)]
            out += _done(b, row)
        return out

    lines = [_offset(b, c, b.mul(c_row, _I64(r))) for r in range(rows)]
    places = [_offset(b, line, _I64(v * LANES)) for line in lines for v in range(vectors)]

    def with_bias(k, sums):
        values = [_load_vector(b, _offset(b, bias, _I64(v * LANES)), mask) for v in range(vectors)]
        return [b.fadd(value, values[i % vectors]) for i, value in enumerate(sums)]

    sums = [_VECTOR(None)] * (rows * vectors)
    sums = _loop(b, more, sums, lambda k, s: [_load_vector(b, place, mask) for place in places])
    sums = _loop(b, biased, _loop(b, steps, sums, body), with_bias)
    least = _splat(b, least, _VECTOR)
    for value, place in zip(sums, places, strict=True):
        _store_vector(b, b.select(b.fcmp_ordered("<", value, least), least, value), place, mask)
    b.ret_void()
    return function


@intrinsic
def outer_tile(typing, c, c_row, bias, a, a_row, a_step, b, b_step, index, steps, rows, columns, more, biased, least):
    """c[r, j] = c[r, j] + sum over k < steps of a[r, index[k]] b[index[k], j] + bias[j]; r < rows <= ROWS, j < columns.

    ``more`` is 1, or 0 where the sum starts from zero; ``biased`` 1, or 0 where there is no bias. What is less than
    ``least`` becomes that: with 0, c = relu. ``columns`` is what `tile_columns` says, or at most LANES. a[r, k] stands
    at a[r a_row + k a_step], b[k, j] at b[k b_step + j], c[r, j] at c[r c_row + j]. Sums run over k in order, whatever
    the tile.
    """
    matrix = (FLOATS, types.int64)
    sig = types.void(*matrix, FLOATS, *matrix, types.int64, *matrix, WORDS, *[types.int64] * 5, types.float32)

    def code(context, builder, sig, args):
        *arguments, height, width, again, with_bias, lowest = args
        arguments = [*arguments, width, again, with_bias, lowest]
        full = builder.icmp_signed(">", width, _I64(LANES))
        with builder.if_else(full) as (whole, part):
            for branch, kind in ((whole, True), (part, False)):
                with branch:
                    _switch(
                        builder, height, lambda r, kind=kind: _outer_function(builder.module, r, kind), arguments, ROWS
                    )
        return context.get_dummy_value()

    return sig, code


def _switch(builder, height, make, arguments, most):
    """Call the function of the tile ``height`` rows high, at most ``most``."""
    after = builder.append_basic_block("done")
    switch = builder.switch(height, after)
    for rows in range(1, most + 1):
        block = builder.append_basic_block(f"rows_{rows}")
        switch.add_case(_I64(rows), block)
        builder.position_at_end(block)
        builder.call(make(rows), arguments)
        builder.branch(after)
    builder.position_at_end(after)


# ---- dot tiles: c[r, j] = a row of a times a row of b ----------------------------------------------------------------
def _added(b, sums):
    """Return a vector of the totals of up to LANES vectors, in order: halves are added until each is one number."""
    sums, size = [*sums, *[_VECTOR(None)] * (LANES - len(sums))], LANES
    while size > 1:
        half, pairs = size // 2, []
        for x, y in zip(sums[::2], sums[1::2], strict=True):
            groups = range(0, LANES, size)
            # a vector holds LANES / size numbers, in parts of ``size`` lanes; two of them become one, part after part
            low = [g + i for source in (0, LANES) for g in groups for i in range(source, source + half)]
            high = [lane + half for lane in low]
            kind = ir.VectorType(_I32, LANES)
            pairs.append(b.fadd(*(b.shuffle_vector(x, y, ir.Constant(kind, lanes)) for lanes in (low, high))))
        sums, size = pairs, half
    return sums[0]


def _dot_function(module, rows):
    """A tile ``rows`` high and DOT_SUMS // rows wide."""
    width, p = DOT_SUMS // rows, _floats_type()
    kinds = [p, _I64, p, _I64, p, _I64, ir.PointerType(_I64), _I64, _I64]
    function, b, args = _function(module, f"gpumlp_dot_{rows}", kinds)
    if b is None:
        return function
    c, c_row, a, a_row, right, right_row, index, steps, columns = args

    def place(j):  # beyond the tile's edge the last column stands once more
        last = b.sub(columns, _I64(1))
        inside = b.select(b.icmp_signed("<", _I64(j), last), _I64(j), last)
        return b.load(b.gep(index, [inside], source_etype=_I64), typ=_I64)

    places = [place(j) for j in range(width)]
    left = [_offset(b, a, b.mul(a_row, _I64(r))) for r in range(rows)]
    lines = [_offset(b, right, b.mul(right_row, place)) for place in places]

    def products(k, sums, mask):
        x, y = ([_load_vector(b, _offset(b, line, k), mask) for line in side] for side in (left, lines))
        return [_multiply_add(b, x[i // width], y[i % width], s) for i, s in enumerate(sums)]

    sums, whole = [_VECTOR(None)] * (rows * width), b.sdiv(steps, _I64(LANES))
    sums = _loop(b, whole, sums, lambda k, s: products(b.mul(k, _I64(LANES)), s, None))
    rest = b.srem(steps, _I64(LANES))
    some = b.zext(b.icmp_signed(">", rest, _I64(0)), _I64)
    sums = _loop(b, some, sums, lambda k, s: products(b.sub(steps, rest), s, _mask(b, rest)))
    groups = [_added(b, sums[i : i + LANES]) for i in range(0, len(sums), LANES)]
    totals = [b.extract_element(groups[i // LANES], _I32(i % LANES)) for i in range(len(sums))]
    for j in range(width):
        with b.if_then(b.icmp_signed("<", _I64(j), columns), likely=True):
            for r in range(rows):
                b.store(totals[r * width + j], _offset(b, c, b.add(b.mul(c_row, _I64(r)), places[j])))
    b.ret_void()
    return function


@intrinsic
def dot_tile(typing, c, c_row, a, a_row, b, b_row, index, steps, rows, columns):
    """c[r, index[j]] = sum over k < steps of a[r, k] b[index[j], k], for r < rows <= DOT_ROWS, j < columns.

    a[r, k] stands at a[r a_row + k], and so on; ``columns`` is at most DOT_SUMS // rows. LANES sums run side
    by side, then their lanes are added by halves, whatever the tile.
    """
    sig = types.void(FLOATS, types.int64, FLOATS, types.int64, FLOATS, types.int64, WORDS, *[types.int64] * 3)

    def code(context, builder, sig, args):
        *arguments, height, width = args
        _switch(builder, height, lambda r: _dot_function(builder.module, r), [*arguments, width], DOT_ROWS)
        return context.get_dummy_value()

    return sig, code


# ---- copies ----------------------------------------------------------------------------------------------------------
@intrinsic
def move(typing, out, a):
    """out[j] = a[j] for j < COLUMNS."""

    def code(context, builder, sig, args):
        values = [_load_vector(builder, _offset(builder, args[1], _I64(v))) for v in range(0, COLUMNS, LANES)]
        for v, value in enumerate(values):
            _store_vector(builder, value, _offset(builder, args[0], _I64(v * LANES)))
        return context.get_dummy_value()

    return types.void(FLOATS, FLOATS), code


@intrinsic
def turn_tile(typing, out, out_row, a, a_row, index):
    """out[j, i] = a[index[i], j] for i, j < LANES."""

    def code(context, builder, sig, args):
        p = _floats_type()
        kinds = [p, _I64, p, _I64, ir.PointerType(_I64)]
        function, b, inner = _function(builder.module, "gpumlp_turn", kinds)
        if b is not None:
            out, out_row, a, a_row, index = inner
            places = [b.load(b.gep(index, [_I64(i)], source_etype=_I64), typ=_I64) for i in range(LANES)]
            lines = [_load_vector(b, _offset(b, a, b.mul(a_row, place))) for place in places]
            size = LANES
            while (
                size > 1
            ):  # swap the upper right and the lower left quarter of every block, then of blocks half as large
                half = size // 2
                first = [lane if lane % size < half else lane - half + LANES for lane in range(LANES)]
                second = [lane + half if lane % size < half else lane + LANES for lane in range(LANES)]
                for i in (i for i in range(LANES) if i % size < half):
                    x, y, kind = lines[i], lines[i + half], ir.VectorType(_I32, LANES)
                    lines[i] = b.shuffle_vector(x, y, ir.Constant(kind, first))
                    lines[i + half] = b.shuffle_vector(x, y, ir.Constant(kind, second))
                size = half
            for j, line in enumerate(lines):
                _store_vector(b, line, _offset(b, out, b.mul(out_row, _I64(j))))
            b.ret_void()
        builder.call(function, args)
        return context.get_dummy_value()

    return types.void(FLOATS, types.int64, FLOATS, types.int64, WORDS), code


# ---- threads, and the processor's modes ------------------------------------------------------------------------------
@intrinsic
def arrive(typing, counter):
    """Add 1 to a counter that threads share, and return what it was; what was written before is seen by the others."""

    def code(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], _I64(1), "acq_rel")

    return types.int64(WORDS), code


@intrinsic
def look(typing, place):
    """Read a word that another thread may write."""

    def code(context, builder, sig, args):
        return builder.load_atomic(args[0], "acquire", 8, typ=_I64)

    return types.int64(WORDS), code


@intrinsic
def publish(typing, place, value):
    """Write a word for the others to see, after all that was written before."""

    def code(context, builder, sig, args):
        builder.store_atomic(args[1], args[0], "release", 8)
        return context.get_dummy_value()

    return types.void(WORDS, types.int64), code


@intrinsic
def rest(typing):
    """Tell the processor that this thread waits."""

    def code(context, builder, sig, args):
        if _ARM:
            hint = _declared(builder.module, "llvm.aarch64.hint", ir.FunctionType(_VOID, [_I32]))
            builder.call(hint, [_I32(1)])
        else:
            builder.call(_declared(builder.module, "llvm.x86.sse2.pause", ir.FunctionType(_VOID, [])), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def call(typing, address):
    """Call a C function without arguments."""

    def code(context, builder, sig, args):
        kind = ir.PointerType(ir.FunctionType(_I32, []))
        builder.call(builder.inttoptr(args[0], kind), [])
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def call_entry(typing, function, address, thread):
    """Call an entry of the kernels, as C sees it, by its address."""

    def code(context, builder, sig, args):
        kind = ir.PointerType(ir.FunctionType(_I32, [_I64, _I64]))
        return builder.call(builder.inttoptr(args[0], kind), args[1:])

    return types.int32(types.int64, types.int64, types.int64), code


@intrinsic
def call_code(typing, address, arguments):
    """Call a formula's function by its address, with a tuple of pointers and whole numbers; return what it returns."""

    def code(context, builder, sig, args):
        values = cgutils.unpack_tuple(builder, args[1])
        kind = ir.PointerType(ir.FunctionType(_I64, [value.type for value in values]))
        return builder.call(builder.inttoptr(args[0], kind), values)

    return types.int64(types.int64, arguments), code


@kernel
def meet(barrier, threads, let_others):
    """Wait until all threads are here. ``barrier``: 16 words, zero at first; ``let_others``: a C function's address."""
    if threads == 1:
        return
    met = at(barrier, 8)
    before = look(met)
    if arrive(barrier) == threads - 1:
        publish(barrier, 0)
        publish(met, before + 1)
        return
    looks = 0
    while look(met) == before:
        rest()
        looks += 1
        if looks % PATIENCE == 0 and let_others != 0:
            call(let_others)


_FLUSH = 1 << 24 if _ARM else (1 << 15) | (1 << 6)  # FZ; flush-to-zero and denormals-are-zero


def _modes(b):
    if _ARM:
        return b.call(_declared(b.module, "llvm.aarch64.get.fpcr", ir.FunctionType(_I64, [])), [])
    place = b.alloca(_I32)
    _sse(b, "st", place)
    return b.zext(b.load(place, typ=_I32), _I64)


def _set_modes(b, value):
    if _ARM:
        b.call(_declared(b.module, "llvm.aarch64.set.fpcr", ir.FunctionType(_VOID, [_I64])), [value])
        return
    place = b.alloca(_I32)
    b.store(b.trunc(value, _I32), place)
    _sse(b, "ld", place)


def _sse(b, way, place):
    octets_of = ir.PointerType(ir.IntType(8))
    function = _declared(b.module, f"llvm.x86.sse.{way}mxcsr", ir.FunctionType(_VOID, [octets_of]))
    b.call(function, [b.bitcast(place, octets_of)])


@intrinsic
def flush_denormals(typing):
    """Have numbers too small for their full precision taken as zero, and return the modes that were.

    They are of no use to training, and arithmetic with them is many times slower on many processors.
    """

    def code(context, builder, sig, args):
        modes = _modes(builder)
        _set_modes(builder, builder.or_(modes, _I64(_FLUSH)))
        return modes

    return types.int64(), code


@intrinsic
def restore_modes(typing, modes):
    """Set the modes that `flush_denormals` found."""

    def code(context, builder, sig, args):
        _set_modes(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), code
