//! The presets `trec` and `deep-reuse` against the definition that the TREC artifact implements, computed naively.

mod common;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt32Type, UInt64Type};
use common::place::Place;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Length of a sub-vector, and number of hashes.
const L: usize = 10;
const H: usize = 10;

/// A vector as the command `vectors` writes it.
struct Vector {
    place: u32,
    values: Vec<f32>,
    signature: u64,
    outcome: String,
    representative: usize,
}

fn read_vectors(path: &Path) -> Vec<Vector> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let mut vectors = Vec::new();
    for batch in reader.build().unwrap().map(Result::unwrap) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (places, values) = (column("stream").as_primitive::<UInt32Type>(), column("values").as_list::<i32>());
        let [signatures, representatives] =
            ["signature", "representative"].map(|name| column(name).as_primitive::<UInt64Type>());
        for row in 0..batch.num_rows() {
            vectors.push(Vector {
                place: places.value(row),
                values: values.value(row).as_primitive::<Float32Type>().values().to_vec(),
                signature: signatures.value(row),
                outcome: column("outcome").as_string::<i32>().value(row).to_owned(),
                representative: representatives.value(row) as usize,
            });
        }
    }
    vectors
}

/// A hash `[L, H]` by a formula, in a file.
fn write_hash(path: &Path) -> Vec<f32> {
    let values: Vec<f32> = (0..L * H).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![L, H], &bytes).unwrap();
    fs::write(path, safetensors::serialize([("random_vectors", view)], &None).unwrap()).unwrap();
    values
}

/// The bucket of a vector that is padded with zeros to `L` elements: bit i is the sign of its product with column i.
fn find_bucket(vector: &[f32], hash: &[f32]) -> u64 {
    let mut padded = vector.to_vec();
    padded.resize(L, 0.0);
    let dot = |bit: usize| (0..L).fold(0.0f32, |sum, row| padded[row].mul_add(hash[row * H + bit], sum));
    (0..H).filter(|&bit| dot(bit) > 0.0).map(|bit| 1 << bit).sum()
}

#[test]
fn buckets_are_those_of_the_artifact() {
    let place = Place::new();
    let hash = write_hash(&place.path("conv.safetensors"));
    for preset in ["trec", "deep-reuse"] {
        // Rows of 27 elements: two sub-vectors and a rest of seven.
        let flags = format!("--layer features.0 --step 0 --preset {preset} --out v.parquet");
        place.stdout(&format!("vectors trace {flags} --rpq.projection file:conv.safetensors"));
        let vectors = read_vectors(&place.path("v.parquet"));
        assert_eq!(vectors.len(), 3 * 64 * 3);
        assert!(vectors.iter().any(|vector| vector.values.len() == 7));
        // Each place in the row has buckets of its own, over all samples.
        let mut first: HashMap<(u32, u64), usize> = HashMap::new();
        for (number, vector) in vectors.iter().enumerate() {
            let bucket = find_bucket(&vector.values, &hash);
            assert_eq!(vector.signature, bucket, "{preset}: vector {number}");
            let representative = *first.entry((vector.place, bucket)).or_insert(number);
            assert_eq!(vector.representative, representative, "{preset}: vector {number}");
            assert_eq!(vector.outcome == "HIT", representative < number, "{preset}: vector {number}");
        }
        let of_one_sample = vectors.len() / 3;
        let crosses =
            |(number, vector): (usize, &Vector)| vector.representative < number / of_one_sample * of_one_sample;
        assert!(vectors.iter().enumerate().any(crosses), "a bucket has vectors of several samples");
    }
}

#[test]
fn a_layer_has_a_hash_of_its_own() {
    let place = Place::new();
    write_hash(&place.path("conv.safetensors"));
    fs::write(
        place.path("own.toml"),
        place.stdout("config show --preset trec --reuse.passes []")
            + "[[layer]]\nname = \"features.3\"\nreuse.passes = [\"forward\", \"weight-grad\"]\n\
               rpq.projection = \"file:conv.safetensors\"\n",
    )
    .unwrap();
    let rows = place.stdout("replay trace --config own.toml --out results --format csv");
    let mut reader = csv::Reader::from_reader(rows.as_bytes());
    let rows: Vec<HashMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let reused = rows.iter().filter(|row| row["reuse"] == "true");
    let reused: Vec<(&str, &str)> = reused.map(|row| (row["layer"].as_str(), row["pass"].as_str())).collect();
    assert_eq!(reused, [("features.3", "forward"), ("features.3", "weight-grad")].repeat(2));
    let error =
        place.error("replay trace --preset trec --rpq.projection file:conv.safetensors --rpq.bits 11 --out other");
    assert!(error.contains("rpq.bits: is 11, but the tensor [10, 10]"), "{error}");
}
