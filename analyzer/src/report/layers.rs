//! Rows of the page's tables and charts: one per layer and pass of a configuration.

use super::source::{COUNTERS, MEASURES};
use crate::error::Result;
use crate::export::json_value;
use crate::groups::{group_rows, known_values, pass_order, sum_counts, sum_floats};
use crate::schema::{ColumnSpec, ColumnType, layers as columns};
use mercury_reuse::bounds::Sampled;
use polars::prelude::{BooleanChunked, DataFrame};
use serde_json::{Map, Value};

/// A row of a table: values by column name.
pub type Row = Map<String, Value>;

/// Converts a frame to rows.
pub fn to_rows(frame: &DataFrame) -> Result<Vec<Row>> {
    let mut rows = vec![Row::new(); frame.height()];
    for column in frame.columns() {
        for (place, row) in rows.iter_mut().enumerate() {
            insert(row, column.name().as_str(), json_value(&column.get(place)?));
        }
    }
    Ok(rows)
}

fn insert(row: &mut Row, name: &str, value: impl Into<Value>) {
    row.insert(name.to_owned(), value.into());
}

/// The rows of one configuration, of `layers.parquet` or `models.parquet`.
pub fn select_configuration(frame: &DataFrame, configuration: u64) -> Result<DataFrame> {
    let found = columns::CONFIGURATION.read_u64s(frame)?;
    let is_wanted: BooleanChunked = found.iter().map(|found| *found == Some(configuration)).collect();
    Ok(frame.filter(&is_wanted)?)
}

/// One row per layer and pass of a configuration, in execution order, summed over the steps in
/// `layers`.
///
/// Sums of counters and measures keep the column names of `layers.parquet`, so that the same charts
/// draw both. Ratios of the sums, such as the hit rate, are added.
pub fn sum_steps(layers: &DataFrame, configuration: u64) -> Result<Vec<Row>> {
    let table = select_configuration(layers, configuration)?;
    let groups = group_layers(&table)?;
    let mut rows: Vec<Row> = groups.iter().map(LayerRows::begin_row).collect();
    for column in [COUNTERS, MEASURES].concat() {
        let sums = sum_groups(&table, column, &groups)?;
        for (row, sum) in rows.iter_mut().zip(sums) {
            insert(row, column.name, sum);
        }
    }
    let bits = columns::SIGNATURE_BITS.read_u64s(&table)?;
    let steps = columns::STEP.read_u64s(&table)?;
    let is_off = columns::SWITCHED_OFF.read_bools(&table)?;
    let is_bound = columns::IS_BOUND.read_bools(&table)?;
    for (row, group) in rows.iter_mut().zip(&groups) {
        insert(row, columns::SIGNATURE_BITS.name, known_values(&bits, &group.places).into_iter().max());
        // The first captured step in which the layer was switched off.
        let off = group.places.iter().filter(|&&place| is_off[place] == Some(true));
        insert(row, "switched_off_at", off.filter_map(|&place| steps[place]).min());
        let has_bound = group.places.iter().any(|&place| is_bound[place] == Some(true));
        insert(row, columns::IS_BOUND.name, has_bound);
        add_ratios(row);
        add_cosine_share(row);
    }
    Ok(rows)
}

/// The rows of a layer and pass, by their places in a table.
struct LayerRows {
    layer: LayerPass,
    places: Vec<usize>,
}

/// A layer and pass.
#[derive(PartialEq, Eq, Hash)]
struct LayerPass {
    index: Option<u64>,
    name: Option<String>,
    op: Option<String>,
    pass: Option<String>,
}

impl LayerRows {
    /// Its place among the groups: layers in execution order, their passes in that of a training step.
    fn order(&self) -> (Option<u64>, usize) {
        (self.layer.index, pass_order(self.layer.pass.as_deref()))
    }

    fn begin_row(&self) -> Row {
        let mut row = Row::new();
        insert(&mut row, columns::LAYER_INDEX.name, self.layer.index);
        insert(&mut row, columns::LAYER.name, self.layer.name.clone());
        insert(&mut row, columns::OP.name, self.layer.op.clone());
        insert(&mut row, columns::PASS.name, self.layer.pass.clone());
        insert(&mut row, "pass_order", self.order().1);
        row
    }
}

/// The layers and passes of a table, in order.
fn group_layers(table: &DataFrame) -> Result<Vec<LayerRows>> {
    let indices = columns::LAYER_INDEX.read_u64s(table)?;
    let names = columns::LAYER.read_texts(table)?;
    let ops = columns::OP.read_texts(table)?;
    let passes = columns::PASS.read_texts(table)?;
    let layers = (0..table.height()).map(|place| LayerPass {
        index: indices[place],
        name: names[place].clone(),
        op: ops[place].clone(),
        pass: passes[place].clone(),
    });
    let mut groups: Vec<LayerRows> =
        group_rows(layers).into_iter().map(|(layer, places)| LayerRows { layer, places }).collect();
    groups.sort_by_key(LayerRows::order);
    Ok(groups)
}

/// The sum of a column over each group; null for a group without a value if the column may be null.
fn sum_groups(table: &DataFrame, column: ColumnSpec, groups: &[LayerRows]) -> Result<Vec<Value>> {
    let sum_or_null = |count: usize, sum: Value| if count == 0 && column.nullable { Value::Null } else { sum };
    let mut sums = Vec::with_capacity(groups.len());
    if column.kind == ColumnType::F64 {
        let values = column.read_f64s(table)?;
        for group in groups {
            let known = known_values(&values, &group.places);
            sums.push(sum_or_null(known.len(), sum_floats(&known).into()));
        }
    } else if column.kind == ColumnType::I64 {
        let values = column.read_i64s(table)?;
        for group in groups {
            let known = known_values(&values, &group.places);
            let sum = known.iter().fold(0, |sum: i64, &value| sum.saturating_add(value));
            sums.push(sum_or_null(known.len(), sum.into()));
        }
    } else {
        let values = column.read_u64s(table)?;
        for group in groups {
            let known = known_values(&values, &group.places);
            sums.push(sum_or_null(known.len(), sum_counts(&known).into()));
        }
    }
    Ok(sums)
}

/// Quotients of a row's sums.
fn add_ratios(row: &mut Row) {
    let hit_rate = divide(row, columns::HIT, columns::VECTORS);
    let error = divide(row, columns::ERROR_SQUARE, columns::EXACT_SQUARE);
    let speed_up = divide(row, columns::BASELINE_CYCLES, columns::MERCURY_CYCLES);
    insert(row, columns::HIT_RATE.name, hit_rate);
    insert(row, columns::OUTPUT_ERROR.name, error.map(f64::sqrt));
    insert(row, columns::SPEED_UP.name, speed_up);
}

/// A quotient of two columns; `None` if one is null, or unless the divisor is positive.
fn divide(row: &Row, dividend: ColumnSpec, divisor: ColumnSpec) -> Option<f64> {
    let dividend = row[dividend.name].as_f64()?;
    let divisor = row[divisor.name].as_f64()?;
    (divisor > 0.0).then(|| dividend / divisor)
}

/// Adds the share of vectors that are similar to an earlier one, and its 95 % interval.
fn add_cosine_share(row: &mut Row) {
    let sampled = read_cosine(row);
    let share = sampled.and_then(|sampled| Some((sampled.share()?, sampled.interval())));
    insert(row, columns::COSINE_SHARE.name, share.map(|(share, _)| share));
    insert(row, columns::COSINE_SHARE_LOW.name, share.map(|(_, [low, _])| low));
    insert(row, columns::COSINE_SHARE_HIGH.name, share.map(|(_, [_, high])| high));
}

/// The ideal similarity in a row, `None` if it was not measured.
pub fn read_cosine(row: &Row) -> Option<Sampled> {
    let count = |column: ColumnSpec| row.get(column.name)?.as_u64();
    Some(Sampled {
        vectors: count(columns::VECTORS)?,
        sampled: count(columns::COSINE_SAMPLED)?,
        similar: count(columns::COSINE_SIMILAR)?,
    })
}
