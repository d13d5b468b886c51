//! SCALE-Sim's topology files: CSV, a header row, a layer a row, a trailing comma or not.
//!
//! Convolution form: name, ifmap height, ifmap width, filter height, filter width, channels, filters,
//! stride, or stride height and stride width (which version 2 of SCALE-Sim reads, 3 does not). GEMM
//! form: name, M, N, K. Output height is ceil((H - filter height + stride) / stride), without padding.
//! As there, a remark or a sparsity ratio after the last number is passed over, and a convolution
//! whose name contains `DP` is depth-wise: a product of its own for each channel.

use crate::error::{HardwareError, Result};
use mercury_trace::geometry::Gemm;
use mercury_trace::input;
use std::path::Path;

/// A layer's name and dense product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyLayer {
    /// The name.
    pub name: String,
    /// Its product for one sample.
    pub gemm: Gemm,
}

/// Most bytes of a topology file: far above any model's.
const MAX_BYTES: u64 = 64 << 20;

/// Largest number in a topology file.
const MAX_NUMBER: u64 = 1 << 24;

/// Most multiply-accumulates of a layer, so that no array's cycles overflow 64 bits.
const MAX_MACS: u128 = 1 << 44;

/// Reads a topology file; a row's number of columns tells which form it has.
pub fn read(path: &Path) -> Result<Vec<TopologyLayer>> {
    let fail = |line, reason: String| HardwareError::Topology { path: path.to_owned(), line, reason };
    let bytes = input::read(path, MAX_BYTES)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes.as_slice());
    let header = reader.headers().map_err(|error| fail(1, format!("is not CSV text: {error}")))?;
    if header.get(1).is_some_and(|field| field.parse::<u64>().is_ok()) {
        return Err(fail(1, "looks like a layer, but the first line is a header; put one before it".to_owned()));
    }
    let mut layers = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            fail(error.position().map_or(0, csv::Position::line), format!("is not CSV text: {error}"))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut fields: Vec<&str> = record.iter().collect();
        while fields.last().is_some_and(|field| field.is_empty()) {
            fields.pop();
        }
        if fields.len() > 4 && fields.last().is_some_and(|field| field.parse::<u64>().is_err()) {
            fields.pop();
        }
        let [name, numbers @ ..] = fields.as_slice() else { continue };
        let numbers = numbers
            .iter()
            .map(|field| match field.parse::<u64>() {
                Ok(number) if (1..=MAX_NUMBER).contains(&number) => Ok(number),
                _ => Err(fail(line, format!("{field:?} is not a whole number from 1 to {MAX_NUMBER}"))),
            })
            .collect::<Result<Vec<u64>>>()?;
        let gemm = gemm(name, &numbers).map_err(|reason| fail(line, reason))?;
        let macs = [gemm.m, gemm.k, gemm.n, gemm.count].iter().map(|&size| u128::from(size)).product::<u128>();
        if macs > MAX_MACS {
            return Err(fail(line, format!("the layer has {macs} multiply-accumulates, more than {MAX_MACS}")));
        }
        layers.push(TopologyLayer { name: (*name).to_owned(), gemm });
    }
    if layers.is_empty() {
        return Err(fail(1, "holds no layers; the first line is a header".to_owned()));
    }
    Ok(layers)
}

fn gemm(name: &str, numbers: &[u64]) -> std::result::Result<Gemm, String> {
    match *numbers {
        [m, n, k] => Ok(Gemm { m, k, n, count: 1 }),
        [height, width, filter_height, filter_width, channels, filters, stride_height, ref rest @ ..]
            if rest.len() <= 1 =>
        {
            let stride_width = rest.first().copied().unwrap_or(stride_height);
            if filter_height > height || filter_width > width {
                return Err(format!(
                    "a filter of {filter_height} x {filter_width} does not fit an ifmap of {height} x {width}"
                ));
            }
            let (count, channels) = if name.contains("DP") { (channels, 1) } else { (1, channels) };
            let output = |size: u64, filter: u64, stride: u64| (size - filter + stride).div_ceil(stride);
            Ok(Gemm {
                m: output(height, filter_height, stride_height) * output(width, filter_width, stride_width),
                k: filter_height * filter_width * channels,
                n: filters,
                count,
            })
        }
        _ => Err(format!(
            "has {} numbers after the name; a convolution has 7 or 8 (ifmap height and width, filter height and \
             width, channels, filters, stride), a GEMM 3 (M, N, K)",
            numbers.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Vec<TopologyLayer>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_are_read_with_and_without_trailing_commas() {
        let conv = parse(
            "Layer name, IFMAP Height, ...\nConv1, 224, 224, 11, 11, 3, 96, 4,\nConv2, 31, 31, 5, 5, 96, 256, 1, 2\n\n",
        )
        .unwrap();
        assert_eq!(conv[0].gemm, Gemm { m: 55 * 55, k: 363, n: 96, count: 1 });
        assert_eq!(conv[1].gemm, Gemm { m: 27 * 14, k: 2400, n: 256, count: 1 });
        let gemm = parse("Layer, M, N, K,\nfc, 128, 4096, 2048,\n").unwrap();
        assert_eq!(gemm[0], TopologyLayer { name: "fc".into(), gemm: Gemm { m: 128, k: 2048, n: 4096, count: 1 } });
    }

    #[test]
    fn remarks_are_passed_over_and_depth_wise_layers_are_split() {
        let layers =
            parse("h\nDP1, 9, 9, 3, 3, 4, 1, 1, #dw\nc, 9, 9, 3, 3, 4, 1, 1, 2:4,\ng, 5, 6, 7, 2:4\n").unwrap();
        let expected = [(49, 9, 1, 4), (49, 36, 1, 1), (5, 7, 6, 1)].map(|(m, k, n, count)| Gemm { m, k, n, count });
        assert_eq!(layers.iter().map(|layer| layer.gemm).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = |text| parse(text).unwrap_err();
        assert!(error("h\na, 1, 2\n").contains("line 2: has 2 numbers"));
        assert!(error("h\na, 8, 8, 3, 3, x, 4, 1\n").contains("\"x\" is not a whole number"));
        assert!(error("h\na, 2, 2, 3, 3, 1, 4, 1\n").contains("does not fit"));
        assert!(error("h\na, 0, 2, 3\n").contains("from 1 to"));
        assert!(error("h\na, 16777216, 16777216, 16777216\n").contains("multiply-accumulates, more than"));
        assert!(error("h\n").contains("no layers"));
        assert!(error("a, 1, 2, 3\nb, 1, 2, 3\n").contains("line 1: looks like a layer"));
    }
}
