//! The projection matrix of a configuration: drawn, or given from outside.

use super::{ConfigError, Granularity, MAX_BITS, mix};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The key of the matrix.
const KEY: &str = "rpq.projection";

/// How the text of a matrix from a file begins.
const FILE: &str = "file:";

/// The projection matrix R.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// Drawn: N(0, 1).
    Gaussian,
    /// Drawn: -1, 0 and +1 with chances 1/6, 2/3 and 1/6 (Achlioptas 2003): additions alone, which cost less
    /// energy; on an array that takes a cycle for an addition they take no less time.
    Sparse,
    /// From a file that was not read: `PATH`, or `PATH#HASH` with the hash of its content. It has to be read
    /// before vectors are signed.
    File(String),
    /// From outside, such as a learned hash: read from a file, or made in memory.
    Given(Arc<GivenProjection>),
}

impl Matrix {
    /// Whether R is drawn, so that another seed gives another R.
    pub fn is_drawn(&self) -> bool {
        matches!(self, Matrix::Gaussian | Matrix::Sparse)
    }

    /// Longest signature that the matrix gives, bits.
    pub fn max_bits(&self) -> u32 {
        if let Matrix::Given(given) = self { given.bits() } else { MAX_BITS }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matrix::Gaussian => f.write_str("gaussian"),
            Matrix::Sparse => f.write_str("sparse"),
            Matrix::File(path) => write!(f, "{FILE}{path}"),
            Matrix::Given(given) => given.fmt(f),
        }
    }
}

impl FromStr for Matrix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix(FILE)) {
            ("gaussian", _) => Ok(Matrix::Gaussian),
            ("sparse", _) => Ok(Matrix::Sparse),
            (_, Some(path)) if !path.is_empty() => Ok(Matrix::File(path.to_owned())),
            _ => Err(format!("{text:?} is not one of gaussian, sparse, file:PATH")),
        }
    }
}

serde_as_text!(Matrix);

/// Projection matrices from outside, one for each length of vectors. Equal content makes them equal, whatever
/// their origin.
///
/// Each tensor is `[length, bits]`: a vector of `length` elements times it gives the dot products whose signs are
/// the bits. A signature of fewer bits uses the first columns.
///
/// With [`Granularity::SubVector`] a vector uses the tensor of the length that is configured. The last vector of
/// a row, which may be shorter, uses its first rows, as if the row were padded with zeros. With all other
/// granularities a vector uses the tensor of its own length.
#[derive(Debug)]
pub struct GivenProjection {
    origin: String,
    hash: u64,
    /// In order of length.
    tensors: Vec<GivenTensor>,
}

/// R for vectors of one length.
#[derive(Debug)]
struct GivenTensor {
    length: usize,
    /// At most [`MAX_BITS`]; a tensor may have more columns, which no signature uses.
    bits: usize,
    /// Transposed: a row for each bit.
    rows: Vec<f32>,
}

impl GivenProjection {
    /// Takes tensors as `(length, bits, values)`, with values in the order `[length][bits]`. `origin` names their
    /// source in results and messages: `file:PATH`, or words of the caller.
    ///
    /// ```
    /// use mercury_reuse::config::{GivenProjection, Matrix, Rpq};
    /// use std::sync::Arc;
    /// // Vectors of two elements; the bits are the signs of x0 + x1 and of -x0.
    /// let tensor = (2, 2, vec![1.0, -1.0, 1.0, 0.0]);
    /// let given = GivenProjection::from_tensors("by hand".to_owned(), vec![tensor]).unwrap();
    /// let rpq = Rpq { bits: 2, projection: Matrix::Given(Arc::new(given)), ..Rpq::default() };
    /// let projection = mercury_reuse::Projection::from_rpq(&rpq, 2);
    /// assert_eq!(projection.signature_scalar(&[-1.0, 3.0]), 0b11);
    /// ```
    ///
    /// # Errors
    /// If there is no tensor, or two have the same length, or one is empty, has another number of values than its
    /// shape, or holds a value that is not finite.
    pub fn from_tensors(origin: String, tensors: Vec<(usize, usize, Vec<f32>)>) -> Result<Self, ConfigError> {
        let fail = |reason: String| ConfigError { key: KEY, reason: format!("{origin}: {reason}") };
        if tensors.is_empty() {
            return Err(fail("holds no tensor; give one [length, bits] for each length of vectors".to_owned()));
        }
        let tensors = tensors.into_iter().map(|(length, bits, values)| GivenTensor::new(length, bits, &values));
        let mut tensors = tensors.collect::<Result<Vec<_>, String>>().map_err(fail)?;
        tensors.sort_by_key(|tensor| tensor.length);
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].length == pair[1].length) {
            return Err(fail(format!(
                "two tensors are for vectors of {} elements; leave one, and give layers files of their own in \
                 [[layer]] tables",
                pair[0].length
            )));
        }
        Ok(Self { hash: hash_tensors(&tensors), origin, tensors })
    }

    /// The source of the tensors.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// A hash of lengths, bits and values.
    pub fn content_hash(&self) -> u64 {
        self.hash
    }

    /// Bits that every tensor has: the smallest number of columns, at most 64.
    pub fn bits(&self) -> u32 {
        self.find_narrowest().bits as u32
    }

    /// The lengths of vectors with a tensor, ascending.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.tensors.iter().map(|tensor| tensor.length)
    }

    /// The length that the tensor of vectors of `length` elements has, if they are cut by `granularity`.
    pub fn find_needed_length(granularity: Granularity, length: usize) -> usize {
        if let Granularity::SubVector(cut) = granularity { cut as usize } else { length }
    }

    /// The length of the tensor for vectors of `length` elements that are cut by `granularity`; `None` if there is no
    /// such tensor.
    pub fn find_length(&self, granularity: Granularity, length: usize) -> Option<usize> {
        self.find_tensor(granularity, length).map(|tensor| tensor.length)
    }

    /// The rows of R for such vectors, one after the other. All tensors have so many bits.
    pub(crate) fn select_rows(&self, granularity: Granularity, length: usize, bits: u32) -> Option<Vec<f32>> {
        let tensor = self.find_tensor(granularity, length)?;
        let rows = tensor.rows.chunks_exact(tensor.length).take(bits as usize);
        Some(rows.flat_map(|row| &row[..length]).copied().collect())
    }

    /// Refuses signatures with more bits than a tensor has columns.
    pub(crate) fn check_bits(&self, bits: u32) -> Result<(), String> {
        let GivenTensor { length, bits: columns, .. } = *self.find_narrowest();
        if bits as usize <= columns {
            return Ok(());
        }
        Err(format!(
            "is {bits}, but the tensor [{length}, {columns}] of {} has {columns} columns, one for each bit; set it to \
             {columns} at most, or give a file with more columns in {KEY}",
            self.origin
        ))
    }

    fn find_narrowest(&self) -> &GivenTensor {
        self.tensors.iter().min_by_key(|tensor| tensor.bits).expect("there is a tensor")
    }

    fn find_tensor(&self, granularity: Granularity, length: usize) -> Option<&GivenTensor> {
        let needed = Self::find_needed_length(granularity, length);
        let found = self.tensors.binary_search_by_key(&needed, |tensor| tensor.length).ok()?;
        Some(&self.tensors[found]).filter(|tensor| length <= tensor.length)
    }
}

impl GivenTensor {
    fn new(length: usize, columns: usize, values: &[f32]) -> Result<Self, String> {
        let tensor = format!("tensor [{length}, {columns}]");
        if length == 0 || columns == 0 {
            return Err(format!("the {tensor} is empty; give one [length, bits]"));
        }
        if length.checked_mul(columns) != Some(values.len()) {
            return Err(format!("the {tensor} has {} values; give length times bits", values.len()));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (row, column) = (at / columns, at % columns);
            let value = values[at];
            return Err(format!(
                "the {tensor} holds {value} in row {row}, column {column}; a projection has finite values"
            ));
        }
        let bits = columns.min(MAX_BITS as usize);
        let rows = (0..bits).flat_map(|bit| values.iter().skip(bit).step_by(columns)).copied().collect();
        Ok(Self { length, bits, rows })
    }
}

impl PartialEq for GivenProjection {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for GivenProjection {}

impl Hash for GivenProjection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Origin and hash: two results by the same file have the same text only if its content was the same.
impl fmt::Display for GivenProjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:016x}", self.origin, self.hash)
    }
}

fn hash_tensors(tensors: &[GivenTensor]) -> u64 {
    let mut hash = 0;
    for tensor in tensors {
        hash = mix(hash ^ tensor.length as u64);
        hash = mix(hash ^ tensor.bits as u64);
        for value in &tensor.rows {
            hash = mix(hash ^ u64::from(value.to_bits()));
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(tensors: &[(usize, usize, &[f32])]) -> Result<GivenProjection, String> {
        let tensors = tensors.iter().map(|(length, bits, values)| (*length, *bits, values.to_vec())).collect();
        GivenProjection::from_tensors("a test".to_owned(), tensors).map_err(|error| error.to_string())
    }

    #[test]
    fn names_read_back_as_they_print() {
        for name in ["gaussian", "sparse", "file:R.safetensors", "file:/a b/R#1.safetensors#0123456789abcdef"] {
            assert_eq!(name.parse::<Matrix>().unwrap().to_string(), name);
        }
        for wrong in ["", "file", "file:", "Gaussian", "normal"] {
            assert!(wrong.parse::<Matrix>().unwrap_err().contains("gaussian, sparse, file:PATH"), "{wrong}");
        }
    }

    #[test]
    fn equal_content_is_equal() {
        let [one, same] = ["one", "two"].map(|origin| {
            GivenProjection::from_tensors(origin.to_owned(), vec![(2, 1, vec![1.0, 2.0]), (1, 1, vec![3.0])]).unwrap()
        });
        assert_eq!(one, same);
        assert_eq!(one, give(&[(1, 1, &[3.0]), (2, 1, &[1.0, 2.0])]).unwrap());
        assert_eq!(one.to_string(), format!("one#{:016x}", same.content_hash()));
        let others: [&[(usize, usize, &[f32])]; 4] = [
            &[(2, 1, &[1.0, 2.0])],
            &[(1, 1, &[3.0]), (1 + 1, 1, &[2.0, 1.0])],
            &[(1, 2, &[1.0, 2.0]), (3, 1, &[3.0, 0.0, 0.0])],
            &[(1, 1, &[-3.0]), (2, 1, &[1.0, 2.0])],
        ];
        for other in others {
            assert_ne!(one, give(other).unwrap(), "{other:?}");
        }
    }

    #[test]
    fn tensors_are_found_by_length() {
        let given = give(&[(4, 3, &[0.5; 12]), (10, 2, &[1.0; 20])]).unwrap();
        assert_eq!((given.bits(), given.lengths().collect::<Vec<_>>()), (2, vec![4, 10]));
        let find = |granularity: &str, length| given.find_length(granularity.parse().unwrap(), length);
        assert_eq!(["patch", "channel-patch"].map(|granularity| find(granularity, 4)), [Some(4); 2]);
        assert_eq!(find("patch", 5), None);
        assert_eq!(find("sub-vector(10)", 10), Some(10));
        // The rest of a row, even if another tensor has its length.
        assert_eq!([3, 4].map(|length| find("sub-vector(10)", length)), [Some(10); 2]);
        assert_eq!(find("sub-vector(5)", 4), None);
    }

    #[test]
    fn what_is_no_projection_is_refused() {
        let error = |tensors| give(tensors).unwrap_err();
        assert_eq!(
            error(&[]),
            "rpq.projection: a test: holds no tensor; give one [length, bits] for each length of vectors"
        );
        assert!(error(&[(0, 4, &[])]).contains("the tensor [0, 4] is empty"));
        assert!(error(&[(4, 0, &[])]).contains("the tensor [4, 0] is empty"));
        assert!(error(&[(2, 2, &[1.0; 3])]).contains("the tensor [2, 2] has 3 values; give length times bits"));
        assert!(error(&[(usize::MAX, 2, &[1.0; 3])]).contains("has 3 values"));
        assert!(error(&[(2, 2, &[1.0, 1.0, f32::NAN, 1.0])]).contains("[2, 2] holds NaN in row 1, column 0;"));
        assert!(error(&[(2, 1, &[1.0, f32::NEG_INFINITY])]).contains("holds -inf in row 1, column 0;"));
        assert!(error(&[(2, 1, &[1.0; 2]), (2, 2, &[1.0; 4])]).contains("two tensors are for vectors of 2 elements"));
    }

    #[test]
    fn columns_beyond_the_longest_signature_are_not_used() {
        let mut values = vec![1.0; 70];
        let given = give(&[(1, 70, &values)]).unwrap();
        values[64..].fill(-2.0);
        assert_eq!((given.bits(), &given), (64, &give(&[(1, 70, &values)]).unwrap()));
    }
}
