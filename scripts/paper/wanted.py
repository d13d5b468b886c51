"""Says what hardware each class of networks wants, for docs/paper.md and the README."""

import polars as pl
from charts import in_order
from words import GAIN, join_words, show_times

# The smallest speed-up for which hardware is recommended.
WORTHWHILE = 1.02


def judge_at_equal_macs(hardware: pl.DataFrame) -> pl.DataFrame:
    """Adds the speed-up at equal MACs and its interval, where the hardware has more MACs."""
    worth = pl.coalesce("speed_up_equal_macs", "speed_up")
    shares = worth / pl.col("speed_up")
    return hardware.with_columns(
        worth=worth, low=pl.col("speed_up_low") * shares, high=pl.col("speed_up_high") * shares
    )


def describe_hardware(hardware: pl.DataFrame) -> str:
    """Says for each class of networks what hardware the best design wants."""
    frame = judge_at_equal_macs(hardware)
    return "\n".join(describe_class(frame.filter(kind=kind)) for kind in in_order(frame, "kind"))


def find_wanted(rows: pl.DataFrame) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """Finds the least hardware that is as good as the best, beside the worst, by axis; and axes without difference."""
    wanted, equal = {}, []
    for axis in in_order(rows, "axis"):
        found = rows.filter(~pl.col("is_bound"), axis=axis).drop_nulls("worth")
        values = found.sort("worth", descending=True, maintain_order=True).to_dicts()
        if len(values) < 2:
            continue
        best, worst = values[0], values[-1]
        if best["worth"] <= GAIN or (best["low"] or best["worth"]) <= (worst["high"] or worst["worth"]):
            equal.append(axis)
            continue
        # The first of the values that are as good, in the order of the axis: the least hardware.
        least = next(row for row in found.to_dicts() if row["worth"] >= (best["low"] or best["worth"]))
        wanted[axis] = least, worst
    return wanted, equal


def describe_class(rows: pl.DataFrame) -> str:
    """Says which value of each axis is best at equal MACs, of hardware that can be built."""
    wanted, equal = find_wanted(rows)
    sentences = [f"- **{rows['kind'][0]}** (`{rows['model'][0]}`)."]
    if wanted:
        listed = "; ".join(
            f"{axis}: {least['value']} "
            f"({show_times(least['worth'])}; {show_times(worst['worth'])} with {worst['value']})"
            for axis, (least, worst) in wanted.items()
        )
        factors = {axis: least["worth"] / worst["worth"] for axis, (least, worst) in wanted.items()}
        most = max(factors, key=factors.get)
        sentences.append(f"The best design within 10 % wants {listed}.")
        sentences.append(f"The largest factor, {factors[most]:.2f}, is that of {most}.")
    if equal:
        sentences.append(f"No gain, or no difference beyond the intervals, by {join_words(equal)}.")
    return " ".join(sentences)


def summarise_hardware(hardware: pl.DataFrame) -> str:
    """Says in a line per class what hardware the best design wants, for the README."""
    frame = judge_at_equal_macs(hardware)
    place = "docs/paper.md#hardware-by-class-of-networks"
    opening = f"The hardware that the best design within 10 % wants, [by class of networks]({place}):\n"
    return "\n".join([opening, *(summarise_class(frame.filter(kind=kind)) for kind in in_order(frame, "kind"))])


def summarise_class(rows: pl.DataFrame) -> str:
    wanted, _ = find_wanted(rows)
    best = rows.filter(~pl.col("is_bound"))["worth"].max()
    if best < WORTHWHILE:
        text = f"at most {show_times(best)}, whatever the hardware"
    elif wanted:
        best = max(least["worth"] for least, _ in wanted.values())
        listed = "; ".join(f"{axis}: {least['value']}" for axis, (least, _) in wanted.items())
        text = f"{show_times(best)} with {listed}"
    else:
        text = f"{show_times(best)}, with no difference beyond the intervals"
    return f"- **{rows['kind'][0]}** (`{rows['model'][0]}`): {text}."
