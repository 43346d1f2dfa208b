"""What `functions.py` asks: each function that is offered, with edge values for its arguments."""

import itertools


def typed(kind, *values):
    quoted = ("NULL" if value is None else "'" + value.replace("'", "''") + "'" for value in values)
    return [f"CAST({value} AS {kind})" for value in quoted]


TEXT = typed("VARCHAR", "", "abc", "aBc dEf", "  x ", "äöüß", "日本", "a,b,,c", "123", None)
WORD = typed("VARCHAR", "", "a", "b", "äö", ",", None)
INT = typed("BIGINT", "0", "1", "-1", "7", "9223372036854775807", "-9223372036854775808", None)
SMALL = typed("BIGINT", "0", "1", "2", "3", "-1", "-2", "30", None)
REAL = typed("DOUBLE", "0", "-0.0", "0.5", "-0.5", "1", "-1", "2.5", "-2.5", "1e300", "NaN", "Infinity", "-Infinity", None)
DAY = typed("DATE", "1970-01-01", "2024-02-29", "2025-12-31", "1969-12-31", "0001-01-01", None)
MOMENT = typed("TIMESTAMP", "1970-01-01 00:00:00", "2024-02-29 23:59:59.999999", "2025-10-26 02:30:00", "1900-01-01 00:00:01", None)
HEX = typed("VARCHAR", "", "abc", "äöü", None)
LIST = ["[1, 2, 3, 2]", "[1]", "[3, NULL, 1]", "[NULL]", "CAST(NULL AS BIGINT[])"]
NUMBERS = ["[1.0::DOUBLE, 2.5::DOUBLE]", "[0.0::DOUBLE, -1.0::DOUBLE]"]
ELEMENT = ["1", "2", "9", "CAST(NULL AS BIGINT)"]
UNITS = [f"'{unit}'" for unit in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")]

# Relations for aggregates: a group of ordinary rows, one with NULLs and extremes, and none.
ROWS = "(VALUES (1.5::DOUBLE, 2::BIGINT, 'b', true), (2.5, 4, 'a', false), (4.0, 4, NULL, NULL), (NULL, NULL, 'a', true)) AS t(r, i, s, b)"
ONE = "(VALUES (1.5::DOUBLE, 9223372036854775807::BIGINT, 'x', true)) AS t(r, i, s, b)"
NONE = "(SELECT * FROM (VALUES (1.5::DOUBLE, 2::BIGINT, 'b', true)) AS u(r, i, s, b) WHERE r > 9) AS t"


class Case:
    """`ours` and `theirs` are one expression with {0}, {1}, … for its arguments; no `theirs` means: DuckDB has none."""

    def __init__(self, names, ours, theirs, *arguments, rows=None, constant=(), verdict="equal", note=""):
        """`constant` are the arguments that can't be columns."""
        self.names, self.ours, self.theirs = names.split(), ours, theirs
        self.arguments, self.rows, self.constant = arguments, rows, constant
        self.verdict, self.note = verdict, note

    def pairs(self):
        if self.rows:
            for relation in self.rows:
                yield f"SELECT {self.ours} FROM {relation}", f"SELECT {self.theirs} FROM {relation}"
            return
        for arguments in itertools.product(*self.arguments):
            theirs = "SELECT " + self.theirs.format(*arguments)
            yield "SELECT " + self.ours.format(*arguments), theirs
            # Of columns a function may be other code than of constants.
            columns = [value if at in self.constant else f"c{at}" for at, value in enumerate(arguments)]
            if any(at not in self.constant for at in range(len(arguments))):
                values, names = ", ".join(arguments), ", ".join(f"c{at}" for at in range(len(arguments)))
                yield f"SELECT {self.ours.format(*columns)} FROM (VALUES ({values})) AS t({names})", theirs


def same(name, *arguments, theirs=None, aliases="", **more):
    """`name(x, y, …)` in both, or under another name there."""
    inside = ", ".join("{%d}" % index for index in range(len(arguments)))
    return Case(f"{name} {aliases}", f"{name}({inside})", f"{theirs or name}({inside})", *arguments, **more)


def aggregate(ours, theirs=None, names=None, **more):
    return Case(names or ours.split("(")[0], ours, theirs or ours, rows=[ROWS, ONE, NONE], **more)


def alone(names, note="", verdict="not in DuckDB"):
    return Case(names, None, None, verdict=verdict, note=note)


CASES = [
    # Numbers.
    same("abs", INT), same("abs", REAL),
    *(same(name, REAL) for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "degrees", "exp", "floor",
        "ln", "log10", "log2", "radians", "sin", "sinh", "tan", "tanh", "isnan")),
    same("cot", REAL),
    same("sqrt", REAL, verdict="differs", note="of a negative number it is an error, as in PostgreSQL"),
    same("atan2", REAL[:6], REAL[:6], verdict="differs", note="a zero has no sign: `atan2(0, -0.0)` is 0"),
    same("power", SMALL, REAL[:8], aliases="pow", verdict="differs", note="a negative power of 0 is an error, as in PostgreSQL"),
    Case("log", "log({0}, {1})", "log({0}, {1})", typed("DOUBLE", "2", "10", None), typed("DOUBLE", "8", "0.5", None)),
    same("gcd", SMALL, SMALL), same("lcm", SMALL, SMALL),
    Case("factorial", "factorial({0})", "factorial({0}::INT)", SMALL, verdict="differs", note="beyond 20 it is an error"),
    same("signum", REAL, theirs="sign", verdict="differs", note="of NaN it is NaN"),
    Case("round", "round({0})", "round({0})", REAL),
    Case("round", "round({0}, {1})", "round({0}, {1}::INT)", typed("DOUBLE", "1.005", "-2.55", "1234.5", None), ["2", "1", "0", "-2"], verdict="differs",
         note="`round(-2.55, 1)` is `-2.6` and `round(0.285, 2)` is `0.28`: what is rounded is the double, moved by the power of ten; a DECIMAL is rounded as it is written"),
    Case("trunc", "trunc({0})", "trunc({0})", REAL),
    Case("iszero", "iszero({0})", "{0} = 0", REAL),
    Case("nanvl", "nanvl({0}, {1})", "CASE WHEN isnan({0}) THEN {1} ELSE {0} END", REAL[7:], REAL[8:]),
    Case("pi", "pi()", "pi()"),
    Case("random rand", "random() >= 0 AND random() < 1", "random() >= 0 AND random() < 1"),
    # Text.
    *(same(name, TEXT) for name in ("ascii", "lower", "bit_length", "reverse", "md5")),
    Case("octet_length", "octet_length({0})", "strlen({0})", TEXT),
    same("upper", TEXT, verdict="differs", note="`ß` becomes `SS`, as Unicode has it"),
    Case("sha256", "sha256({0})", "unhex(sha256({0}))", TEXT, note="bytes, not hexadecimal digits: `encode(sha256(x), 'hex')`"),
    same("length", TEXT, aliases="char_length character_length"),
    alone("initcap"),
    same("btrim", TEXT, theirs="trim", aliases="trim"), same("ltrim", TEXT), same("rtrim", TEXT),
    Case("btrim", "trim(BOTH 'a' FROM {0})", "trim(BOTH 'a' FROM {0})", TEXT),
    same("chr", typed("INT", "65", "228", "128512", "0", "-1", None)),
    Case("concat", "concat({0}, {1})", "concat({0}, {1})", WORD, WORD),
    Case("concat_ws", "concat_ws(',', {0}, {1})", "concat_ws(',', {0}, {1})", WORD, WORD),
    same("contains", TEXT, WORD), same("starts_with", TEXT, WORD), same("ends_with", TEXT, WORD),
    same("strpos", TEXT, WORD, aliases="instr position"),
    same("left", TEXT, SMALL), same("right", TEXT, SMALL),
    *(Case(name, f"{name}({{0}}, {{1}}, {{2}})", f"{name}({{0}}, {{1}}::INT, {{2}})", TEXT, SMALL, WORD, verdict="differs",
           note="filled with nothing the text stays as it is; a negative length panicked (mended)") for name in ("lpad", "rpad")),
    same("levenshtein", TEXT, WORD),
    same("repeat", WORD, SMALL), same("replace", TEXT, WORD, WORD), same("translate", TEXT, WORD, WORD),
    same("split_part", TEXT, WORD, SMALL, verdict="differs", note="part 0 is an error, and an empty separator splits nothing, as in PostgreSQL"),
    Case("substr substring", "substr({0}, {1})", "substr({0}, {1})", TEXT, SMALL, verdict="differs",
         note="a place before the first is before the text, not from its end; a negative length is an error, as in PostgreSQL"),
    Case("substr substring", "substr({0}, {1}, {2})", "substr({0}, {1}, {2})", TEXT, SMALL, SMALL, verdict="differs", note="so too with a length"),
    Case("to_hex", "to_hex({0})", "lower(to_hex({0}))", typed("BIGINT", "0", "255", "-1", None)),
    Case("encode", "encode({0}, 'hex')", "lower(hex({0}))", HEX), Case("encode", "encode({0}, 'base64')", "base64(encode({0}))", HEX),
    Case("decode", "decode({0}, 'hex')", "unhex({0})", typed("VARCHAR", "", "ff", "0aB1", None)),
    alone("digest sha224 sha384 sha512"),
    Case("regexp_like", "regexp_like({0}, {1})", "regexp_matches({0}, {1})", TEXT, typed("VARCHAR", "", "b", "^a", "[0-9]+$", None)),
    Case("regexp_replace", "regexp_replace({0}, {1}, '<>')", "regexp_replace({0}, {1}, '<>')", TEXT, typed("VARCHAR", "b", "^a", "[a-z]", None)),
    Case("regexp_replace", "regexp_replace({0}, {1}, '<>', 'g')", "regexp_replace({0}, {1}, '<>', 'g')", TEXT, typed("VARCHAR", "b", "^a", "[a-z]", None)),
    alone("regexp_count regexp_instr regexp_match"),
    alone("find_in_set overlay substr_index substring_index"),
    alone("uuid", "random, so in queries alone"),
    # Moments.
    *(Case("date_part datepart", f"date_part('{part}', {{0}})", f"date_part('{part}', {{0}})", DAY + MOMENT)
      for part in ("year", "quarter", "month", "week", "day", "doy", "dow", "hour", "minute", "second", "epoch", "isodow", "millisecond", "microsecond")),
    Case("date_trunc datetrunc", "date_trunc({1}, {0})", "date_trunc({1}, {0})", MOMENT, UNITS, constant=(1,)),
    Case("date_trunc datetrunc", "date_trunc({1}, {0})", "date_trunc({1}, {0})", DAY, UNITS[:5], constant=(1,), verdict="differs",
         note="a DATE outside 1677 to 2262 is an error: the result has nanoseconds"),
    Case("date_bin", "date_bin({1}, {0}, TIMESTAMP '1970-01-01')", "time_bucket({1}, {0}, TIMESTAMP '1970-01-01')", MOMENT,
         ["INTERVAL '15 minutes'", "INTERVAL '1 day'", "INTERVAL '1 month'"], constant=(1,)),
    Case("make_date", "make_date({0}, {1}, {2})", "make_date({0}, {1}, {2})", ["2024", "2025", "0", "NULL::INT"], ["2", "13"], ["1", "29", "0"], verdict="differs", note="the years begin with 1"),
    Case("make_time", "make_time({0}, {1}, {2})", "make_time({0}, {1}, {2})", ["0", "23", "24"], ["59", "60"], ["59", "60"], verdict="differs", note="second 60 is an error"),
    Case("to_date", "to_date({0})", "CAST({0} AS DATE)", typed("VARCHAR", "2025-06-01", "2025-02-30", "", "abc", None)),
    Case("to_timestamp", "to_timestamp({0})", "to_timestamp({0})", typed("BIGINT", "0", "-1", "1748736000", None)),
    Case("to_timestamp", "to_timestamp({0})", "CAST({0} AS TIMESTAMPTZ)", typed("VARCHAR", "2025-06-01T12:00:00", "2025-06-01 12:00:00+02:00", "abc", None)),
    Case("to_timestamp_millis", "to_timestamp_millis({0})", "epoch_ms({0})", typed("BIGINT", "0", "-1", "1748736000123", None)),
    Case("to_timestamp_micros", "to_timestamp_micros({0})", "make_timestamp({0})", typed("BIGINT", "0", "-1", "1748736000123456", None)),
    Case("to_timestamp_seconds from_unixtime", "to_timestamp_seconds({0})", "to_timestamp({0})", typed("BIGINT", "0", "-1", "1748736000", None)),
    Case("to_unixtime", "to_unixtime({0})", "epoch({0})::BIGINT", MOMENT),
    Case("to_char date_format", "to_char({0}, '%Y-%m-%d %H:%M:%S %j')", "strftime({0}, '%Y-%m-%d %H:%M:%S %j')", MOMENT,
         note="a pattern without `%` is refused"),
    Case("now current_timestamp", "now() - now() = INTERVAL '0 s'", "now() - now() = INTERVAL '0 s'"),
    Case("current_date today", "current_date() = CAST(now() AS DATE)", "current_date() = CAST(now() AS DATE)"),
    alone("current_time to_local_time to_time to_timestamp_nanos"),
    # Conditions.
    same("coalesce", WORD, WORD), same("nullif", WORD, WORD), same("ifnull", WORD, WORD, aliases="nvl"),
    Case("nvl2", "nvl2({0}, {1}, {2})", "CASE WHEN {0} IS NOT NULL THEN {1} ELSE {2} END", WORD, WORD, WORD[:2]),
    same("greatest", SMALL, SMALL), same("least", SMALL, SMALL),
    # Lists. Both names of each are offered.
    *(Case(names, f"array_{ours}({{0}}{', {1}' if arguments else ''})", theirs, LIST, *arguments,
           note="reckoned in DOUBLE" if ours in ("sum", "avg", "product") else "")
      for ours, theirs, arguments, names in (
        ("append", "list_append({0}, {1})", [ELEMENT], "array_append list_append array_push_back list_push_back"),
        ("contains", "list_contains({0}, {1})", [ELEMENT], "array_contains list_contains array_has list_has"),
        ("element", "list_extract({0}, {1})", [ELEMENT], "array_element list_element array_extract list_extract"),
        ("length", "len({0})", [], "array_length list_length"),
        ("max", "list_max({0})", [], "array_max list_max"),
        ("min", "list_min({0})", [], "array_min"),
        ("sum", "list_sum({0})", [], "array_sum list_sum"),
        ("avg", "list_avg({0})", [], "array_avg list_avg"),
        ("product", "list_product({0})", [], "array_product list_product"),
        ("position", "list_position({0}, {1})", [ELEMENT], "array_position list_position array_indexof list_indexof"),
        ("reverse", "list_reverse({0})", [], "array_reverse list_reverse"),
        ("sort", "list_sort({0}, 'ASC', 'NULLS FIRST')", [], "array_sort list_sort"),
    )),
    Case("array_concat list_concat array_cat list_cat", "array_concat({0}, {1})", "list_concat({0}, {1})", LIST, LIST, verdict="differs",
         note="of two NULLs it is NULL"),
    Case("array_distinct list_distinct", "array_sort(array_distinct({0}))", "list_sort(list_distinct({0}), 'ASC', 'NULLS FIRST')", LIST,
         verdict="differs", note="NULL is an element"),
    Case("array_intersect list_intersect", "array_sort(array_intersect({0}, {1}))", "list_sort(list_intersect({0}, {1}), 'ASC', 'NULLS FIRST')", LIST, LIST,
         verdict="differs", note="NULL is an element, and with a NULL for a list it is NULL"),
    Case("array_union list_union", "array_sort(array_union({0}, {1}))", "list_sort(list_distinct(list_concat({0}, {1})), 'ASC', 'NULLS FIRST')", LIST[:2], LIST[:2]),
    Case("array_except list_except", "array_sort(array_except({0}, {1}))", "list_sort(list_filter(list_distinct({0}), lambda e: NOT list_contains({1}, e)))", LIST[:2], LIST[:2]),
    Case("array_has_all list_has_all", "array_has_all({0}, {1})", "list_has_all({0}, {1})", LIST[:3], LIST[:2]),
    Case("array_has_any list_has_any arrays_overlap", "array_has_any({0}, {1})", "list_has_any({0}, {1})", LIST[:3], LIST[:2]),
    Case("array_prepend list_prepend array_push_front list_push_front", "array_prepend({1}, {0})", "list_prepend({1}, {0})", LIST, ELEMENT),
    Case("array_slice list_slice", "array_slice({0}, {1}, {2})", "list_slice({0}, {1}, {2})", LIST[:2], ["1", "2", "-2"], ["1", "3", "-1"]),
    Case("array_resize list_resize", "array_resize({0}, {1})", "list_resize({0}, {1})", LIST[:3], ["0", "2", "5"]),
    Case("array_to_string list_to_string array_join list_join", "array_to_string({0}, ',')", "array_to_string({0}, ',')", LIST,
         verdict="differs", note="of NULLs alone it is the empty text"),
    Case("array_pop_back list_pop_back", "array_pop_back({0})", "list_slice({0}, 1, len({0}) - 1)", LIST[:2]),
    Case("array_pop_front list_pop_front", "array_pop_front({0})", "list_slice({0}, 2, len({0}))", LIST[:2]),
    Case("array_remove_all list_remove_all", "array_remove_all({0}, {1})", "list_filter({0}, lambda e: e IS DISTINCT FROM {1})", LIST[:2], ELEMENT[:3]),
    alone("array_remove list_remove array_remove_n list_remove_n array_replace list_replace array_replace_all list_replace_all "
          "array_replace_n list_replace_n array_positions list_positions"),
    alone("array_any_value list_any_value array_compact list_compact array_dims list_dims array_ndims list_ndims"),
    alone("array_repeat list_repeat", "bounded: what would pass 64 MiB is refused"),
    alone("array_add list_add array_subtract list_subtract array_scale list_scale array_normalize list_normalize"),
    alone("arrays_zip list_zip any_value"),
    Case("cardinality", "cardinality({0})", "len({0})", LIST),
    Case("empty array_empty list_empty", "empty({0})", "len({0}) = 0", LIST),
    Case("cosine_distance", "cosine_distance({0}, {1})", "list_cosine_distance({0}, {1})", NUMBERS, NUMBERS, verdict="differs",
         note="by less than 1e-15, from rounding"),
    Case("array_distance list_distance", "array_distance({0}, {1})", "list_distance({0}, {1})", NUMBERS, NUMBERS),
    Case("inner_product dot_product", "inner_product({0}, {1})", "list_inner_product({0}, {1})", NUMBERS, NUMBERS),
    Case("flatten", "flatten([[1, 2], [], [3]])", "flatten([[1, 2], [], [3]])"),
    Case("generate_series", "generate_series(1, {0}, 2)", "generate_series(1, {0}, 2)", ["0", "1", "6"]),
    Case("range", "range(1, {0}, 2)", "range(1, {0}, 2)", ["0", "1", "6"]),
    Case("make_array make_list", "make_array({0}, {0})", "list_value({0}, {0})", ELEMENT),
    Case("string_to_array string_to_list", "string_to_array({0}, {1})", "string_split({0}, {1})", TEXT, WORD, verdict="differs",
         note="the empty text has no parts, an empty separator splits nothing and NULL each letter, as in PostgreSQL"),
    Case("map map_extract element_at", "map_extract(map(['a', 'b'], [1, NULL]), {0})", "map_extract(map(['a', 'b'], [1, NULL]), {0})", WORD,
         verdict="differs", note="a key that is not there gives `[NULL]`, not `[]`"),
    Case("map_keys", "map_keys(map(['a', 'b'], [1, NULL]))", "map_keys(map(['a', 'b'], [1, NULL]))"),
    Case("map_values", "map_values(map(['a', 'b'], [1, NULL]))", "map_values(map(['a', 'b'], [1, NULL]))"),
    Case("named_struct get_field struct row", "named_struct('a', {0})['a']", "struct_pack(a := {0})['a']", WORD),
    # Aggregates: over ordinary rows with NULLs, over one row of the largest integer, over none.
    *(aggregate(f"{name}({argument})") for name, argument in (
        ("avg", "r"), ("sum", "r"), ("min", "r"), ("max", "s"), ("count", "r"), ("count", "DISTINCT s"), ("median", "r"),
        ("sum", "i"), ("avg", "i"), ("sum", "DISTINCT i"), ("stddev", "r"), ("stddev_pop", "r"), ("stddev_samp", "r"),
        ("var_pop", "r"), ("var_samp", "r"), ("covar_pop", "r, i"), ("covar_samp", "r, i"),
        ("bit_and", "i"), ("bit_or", "i"), ("bit_xor", "i"), ("bool_and", "b"), ("bool_or", "b"),
        ("regr_avgx", "r, i"), ("regr_avgy", "r, i"), ("regr_count", "r, i"), ("regr_intercept", "r, i"), ("regr_r2", "r, i"),
        ("regr_sxx", "r, i"), ("regr_sxy", "r, i"), ("regr_syy", "r, i"),
        ("string_agg", "s, ',' ORDER BY s"), ("array_agg", "i ORDER BY i"))),
    *(aggregate(f"{name}(r, i)", verdict="differs", note="of one row it is NULL, not NaN") for name in ("corr", "regr_slope")),
    aggregate("median(i)", names="median"),
    aggregate("avg(r)", names="mean"), aggregate("covar_samp(r, i)", names="covar"),
    aggregate("var_samp(r)", names="var var_sample"), aggregate("var_pop(r)", names="var_population"),
    aggregate("percentile_cont(0.25) WITHIN GROUP (ORDER BY r)"),
    aggregate("percentile_cont(0.25) WITHIN GROUP (ORDER BY r DESC)", names="percentile_cont"),
    aggregate("quantile_cont(r, 0.25)"),
    aggregate("first_value(s ORDER BY r)", "first(s ORDER BY r)"), aggregate("last_value(s ORDER BY r)", "last(s ORDER BY r)"),
    aggregate("nth_value(s, 2 ORDER BY r)", "(array_agg(s ORDER BY r))[2]"),
    aggregate("approx_distinct(i)", "approx_count_distinct(i)", note="not of floats"),
    alone("approx_median approx_percentile_cont approx_percentile_cont_with_weight", "approximate, and another sketch there"),
    Case("grouping", "array_agg(g ORDER BY g)", "array_agg(g ORDER BY g)", rows=[f"(SELECT grouping(s) AS g FROM {ROWS} GROUP BY ROLLUP (s))"]),
    # Functions of OVER.
    *(Case(call.split("(")[0], "array_agg(v ORDER BY k, v NULLS LAST)", "array_agg(v ORDER BY k, v NULLS LAST)",
           rows=[f"(SELECT i AS k, {call} OVER (ORDER BY i NULLS LAST, r NULLS LAST) AS v FROM {ROWS})"]) for call in (
        "row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "ntile(3)", "lag(s)", "lead(s, 2, 'none')",
        "first_value(s)", "last_value(s)", "nth_value(s, 2)", "sum(i)", "lag(s, 2)")),
    alone("arrow_cast arrow_field arrow_metadata arrow_try_cast arrow_typeof cast_to_type try_cast_to_type with_metadata version",
          "about Arrow's types"),
    alone("file_row_index input_file_name", "of a file that a row is in"),
    alone("union_extract union_tag map_entries"),
]
