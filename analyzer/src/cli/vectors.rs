//! `vectors`: exports the input vectors of a layer.

use super::overrides::Configuration;
use super::work::parse_pass;
use crate::adaptation::count_growth;
use crate::error::AnalyzerError;
use crate::operand::{LayerData, Needs};
use crate::replay::Similarity;
use crate::request::captured_steps;
use crate::suggest::did_you_mean;
use anyhow::Result;
use arrow::array::{ArrayRef, Float32Builder, ListBuilder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Args;
use mercury_reuse::{Outcome, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::CapturedStep;
use mercury_trace::{Trace, atomic};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows written at a time.
const BATCH_ROWS: usize = 1 << 14;

/// Write a layer's input vectors as Parquet, one per row, with signature and outcome.
///
/// Columns: product (a strided input gradient consists of several), vector, sample (its index in
/// the batch), stream, channel (of the vector's first element; the head of a product of two activations),
/// position, values, signature (with the length in force at the step), outcome (HIT, MAU, MNU),
/// representative (a vector of the same product).
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer vectors trace --layer features.0 --out vectors.parquet")]
pub struct Vectors {
    /// Folder of the trace.
    trace: PathBuf,
    /// Layer to export; `mercury-analyzer inspect` lists the layers.
    #[arg(long, value_name = "NAME")]
    layer: String,
    /// Captured step [default: the last].
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Pass: forward or input-grad (weight-grad streams the vectors of forward).
    #[arg(long, value_name = "PASS", default_value = "forward", value_parser = parse_pass)]
    pass: Pass,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write at most the first N vectors of each product.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    configuration: Configuration,
}

impl Vectors {
    /// Computes signatures and outcomes, and writes the file.
    pub fn run(self) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        let layer = self.find_layer(&trace)?.clone();
        let step = self.find_step(&trace)?;
        let config = Arc::new(self.configuration.resolve()?);
        config.check_layers(&trace.manifest().model.name, trace.layers()).map_err(AnalyzerError::from)?;
        let losses: Vec<(u64, f64)> = trace.steps()?.iter().map(|step| (step.step, step.loss)).collect();
        let grown_bits = count_growth(&config.bits, &losses, &[step.step])[0];
        let configs = config.layer_configs(&layer.name, grown_bits);
        if self.pass == Pass::InputGrad && !layer.input_grad {
            let reason = "training computes no gradient of its input, which is the data, or comes from frozen layers; \
                          use --pass forward"
                .to_owned();
            return Err(AnalyzerError::Layer { layer: layer.name, reason }.into());
        }
        let needs = Needs { grad_output: self.pass == Pass::InputGrad, weight: false };
        let data = LayerData::read(&trace, step, &layer, needs)?;
        if data.streamed(self.pass).is_none() {
            let reason = format!("pass {} needs the output gradient, which was not captured", self.pass);
            return Err(AnalyzerError::Layer { layer: layer.name, reason }.into());
        }
        let similarity = Similarity::find(&data, self.pass, configs.pass(self.pass))?;

        let fail = || AnalyzerError::io(&self.out);
        let file = atomic::begin(&self.out).map_err(fail())?;
        let level = ZstdLevel::try_new(1).expect("1 is a zstd level");
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let handle = file.as_file().try_clone().map_err(fail())?;
        let mut writer = ArrowWriter::try_new(handle, schema(), Some(properties))?;
        for product in 0..similarity.signed.views.len() {
            let count = similarity.signed.views[product].layout().vectors().min(self.limit.unwrap_or(usize::MAX));
            for first in (0..count).step_by(BATCH_ROWS) {
                let rows = first..(first + BATCH_ROWS).min(count);
                writer.write(&build_batch(&data, step, self.pass, &similarity, product, rows)?)?;
            }
        }
        writer.close()?;
        atomic::commit(file, &self.out).map_err(fail())?;
        Ok(())
    }

    fn find_layer<'t>(&self, trace: &'t Trace) -> Result<&'t Layer, AnalyzerError> {
        trace.layers().iter().find(|layer| layer.name == self.layer).ok_or_else(|| {
            let known: Vec<&str> = trace.layers().iter().map(|layer| layer.name.as_str()).collect();
            let meant = did_you_mean(&self.layer, known.iter().copied());
            let reason =
                format!("{:?} is not a layer of this trace; choose one of {}{meant}", self.layer, known.join(", "));
            AnalyzerError::Flag { flag: "--layer", reason }
        })
    }

    fn find_step<'t>(&self, trace: &'t Trace) -> Result<&'t CapturedStep, AnalyzerError> {
        let captured = captured_steps(trace)?;
        let found = match self.step {
            Some(number) => captured.iter().find(|step| step.step == number),
            None => captured.last(),
        };
        found.ok_or_else(|| {
            let known: Vec<String> = captured.iter().map(|step| step.step.to_string()).collect();
            let reason = format!("is not a captured step of this trace; the captured steps are {}", known.join(", "));
            AnalyzerError::Flag { flag: "--step", reason }
        })
    }
}

fn schema() -> SchemaRef {
    let values = DataType::List(Arc::new(Field::new("element", DataType::Float32, false)));
    Arc::new(Schema::new(vec![
        Field::new("product", DataType::UInt32, false),
        Field::new("vector", DataType::UInt64, false),
        Field::new("sample", DataType::UInt32, false),
        Field::new("stream", DataType::UInt32, false),
        Field::new("channel", DataType::UInt32, false),
        Field::new("position", DataType::UInt32, false),
        Field::new("values", values, false),
        Field::new("signature", DataType::UInt64, false),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("representative", DataType::UInt64, false),
    ]))
}

fn build_batch(
    data: &LayerData,
    step: &CapturedStep,
    pass: Pass,
    similarity: &Similarity,
    product: usize,
    rows: std::ops::Range<usize>,
) -> Result<RecordBatch> {
    let (view, outcomes_found) = (&similarity.signed.views[product], &similarity.outcomes[product]);
    let mut products = UInt32Builder::new();
    let mut vectors = UInt64Builder::new();
    let mut samples = UInt32Builder::new();
    let mut streams = UInt32Builder::new();
    let mut channels = UInt32Builder::new();
    let mut positions = UInt32Builder::new();
    let mut signatures = UInt64Builder::new();
    let mut representatives = UInt64Builder::new();
    let mut outcomes = StringBuilder::new();
    let element = Field::new("element", DataType::Float32, false);
    let mut values = ListBuilder::new(Float32Builder::new()).with_field(element);
    let mut buffer = vec![0.0; view.max_length()];
    for vector in rows {
        let (sample, stream, position) = view.layout().locate(vector);
        products.append_value(product as u32);
        vectors.append_value(vector as u64);
        samples.append_value(step.samples[sample]);
        streams.append_value(stream as u32);
        channels.append_value(find_channel(data, view, pass, stream));
        positions.append_value(position as u32);
        values.values().append_slice(view.gather(sample, stream, position, &mut buffer));
        values.append(true);
        signatures.append_value(similarity.signed.signatures[product][vector]);
        outcomes.append_value(match outcomes_found.outcome(vector) {
            Outcome::Hit(_) => "HIT",
            Outcome::Mau => "MAU",
            Outcome::Mnu => "MNU",
        });
        representatives.append_value(outcomes_found.representative(vector) as u64);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(products.finish()),
        Arc::new(vectors.finish()),
        Arc::new(samples.finish()),
        Arc::new(streams.finish()),
        Arc::new(channels.finish()),
        Arc::new(positions.finish()),
        Arc::new(values.finish()),
        Arc::new(signatures.finish()),
        Arc::new(outcomes.finish()),
        Arc::new(representatives.finish()),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// The channel of a stream's first element; the head of a product of two activations.
fn find_channel(data: &LayerData, view: &VectorView, pass: Pass, stream: usize) -> u32 {
    let (plane, _, _) = view.element(stream, 0);
    match (data.kept.layer.geometry, pass) {
        (Geometry::Conv2d(_), Pass::InputGrad) => data.kept.grad_channels[plane],
        (Geometry::Conv2d(_), _) => data.kept.channels[plane],
        (Geometry::Linear(_) | Geometry::Matmul(_), _) => plane as u32,
    }
}
