//! Tables of results, for any Arrow library.

use crate::raise;
use arrow::array::RecordBatchReader;
use arrow::ffi_stream::FFI_ArrowArrayStream;
use mercury_analyzer::table;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use polars::prelude::{CompatLevel, DataFrame};
use polars_arrow::array::{Array, StructArray};
use polars_arrow::datatypes::{ArrowDataType, Field};
use polars_arrow::ffi::{ArrowArrayStream, export_iterator};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::CStr;
use std::fs::File;
use std::path::PathBuf;

/// The name that the `PyCapsule` interface of Arrow prescribes.
const STREAM: &CStr = c"arrow_array_stream";

/// A table. `polars.DataFrame(table)`, `pyarrow.table(table)` and duckdb take it by `__arrow_c_stream__`, without a copy.
#[pyclass(frozen)]
pub struct Table(DataFrame);

impl Table {
    /// Wraps a data frame.
    pub fn new(frame: DataFrame) -> Self {
        Self(frame)
    }
}

#[pymethods]
impl Table {
    /// Names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.0.get_column_names().iter().map(ToString::to_string).collect()
    }

    fn __len__(&self) -> usize {
        self.0.height()
    }

    /// A table of aligned text.
    fn __str__(&self) -> PyResult<String> {
        let text = mercury_analyzer::export::encode(&self.0, mercury_analyzer::export::Format::Table).map_err(raise)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn __repr__(&self) -> String {
        format!("Table({} rows: {})", self.0.height(), self.columns().join(", "))
    }

    /// The table as comma-separated values with a header, as `--format csv` prints it.
    fn to_csv(&self) -> PyResult<String> {
        let text = mercury_analyzer::export::encode(&self.0, mercury_analyzer::export::Format::Csv).map_err(raise)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The rows as dictionaries, for small tables.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = mercury_analyzer::export::encode(&self.0, mercury_analyzer::export::Format::Json).map_err(raise)?;
        py.import("json")?.call_method1("loads", (String::from_utf8_lossy(&text).into_owned(),))
    }

    /// The `PyCapsule` interface of Arrow.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A producer may ignore the request, and consumers cast.
        drop(requested_schema);
        let fields: Vec<Field> =
            self.0.columns().iter().map(|column| column.field().to_arrow(CompatLevel::newest())).collect();
        let dtype = ArrowDataType::Struct(fields);
        let field = Field::new("".into(), dtype.clone(), false);
        // All chunks of all columns must align.
        let mut frame = self.0.clone();
        frame.align_chunks_par();
        let batches: Vec<Box<dyn Array>> = frame
            .iter_chunks(CompatLevel::newest(), false)
            .map(|batch| {
                let array = StructArray::new(dtype.clone(), batch.height(), batch.into_arrays(), None);
                Box::new(array) as Box<dyn Array>
            })
            .collect();
        let stream: ArrowArrayStream = export_iterator(Box::new(batches.into_iter().map(Ok)), field);
        PyCapsule::new_with_value(py, stream, STREAM)
    }
}

/// Reads a table of results, such as `results/layers.parquet`; a damaged file is an error that names it.
#[pyfunction]
pub fn read_table(py: Python<'_>, path: PathBuf) -> PyResult<Table> {
    py.detach(|| table::read(&path)).map(Table).map_err(raise)
}

/// A Parquet file as a table that is read when it is asked for, batch by batch.
#[pyclass(frozen)]
pub struct ParquetTable {
    /// The open file, which stays readable after it was removed.
    file: File,
    path: PathBuf,
}

impl ParquetTable {
    fn reader(&self) -> PyResult<ParquetRecordBatchReader> {
        let file = self.file.try_clone().map_err(|error| raise(format!("{}: {error}", self.path.display())))?;
        let build = |file| ParquetRecordBatchReaderBuilder::try_new(file)?.build();
        build(file).map_err(|error| raise(format!("{}: {error}", self.path.display())))
    }
}

#[pymethods]
impl ParquetTable {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let file = File::open(&path).map_err(|error| raise(format!("{}: {error}", path.display())))?;
        let table = Self { file, path };
        table.reader()?;
        Ok(table)
    }

    /// Names of the columns.
    #[getter]
    fn columns(&self) -> PyResult<Vec<String>> {
        let reader = self.reader()?;
        Ok(reader.schema().fields().iter().map(|field| field.name().clone()).collect())
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(format!("ParquetTable({}: {})", self.path.display(), self.columns()?.join(", ")))
    }

    /// The `PyCapsule` interface of Arrow.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let stream = FFI_ArrowArrayStream::new(Box::new(self.reader()?));
        PyCapsule::new_with_value(py, stream, STREAM)
    }
}
