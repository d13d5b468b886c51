//! Reads the pages of a Parquet file within limits.
//!
//! Without limits, a page of a few bytes could claim billions of values, or unpack to more bytes
//! than memory holds.

use crate::columns::{self, ColumnRefusal};
use crate::error::{Result as TraceResult, TraceError};
use crate::input::Source;
use crate::quiet;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Compression, CompressionCodec};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{ReaderProperties, ReaderPropertiesPtr};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Reads the metadata of a file, with Parquet's own types.
///
/// The Arrow schema that some writers add only describes their memory, such as text with large
/// offsets.
pub(crate) fn load(path: &Path, source: &Source) -> TraceResult<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = quiet::decode(path, || ArrowReaderMetadata::load(source, options))?
        .map_err(|error| TraceError::parquet(path, error))?;
    columns::check_codecs(metadata.metadata())
        .map_err(|ColumnRefusal { column, reason }| TraceError::invalid(path, column, reason))?;
    Ok(metadata)
}

/// Limits of each column of a row group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits {
    /// Maximum number of values of a list column; other columns have one value per row.
    pub list_values: u64,
    /// Maximum bytes of its pages, for codecs that ignore the size in the page's header.
    pub bytes: u64,
}

/// The columns of a file, page by page.
pub(crate) struct Pages {
    source: Arc<Source>,
    metadata: Arc<ParquetMetaData>,
    properties: ReaderPropertiesPtr,
    limits: PageLimits,
}

impl Pages {
    pub(crate) fn new(source: Source, metadata: Arc<ParquetMetaData>, limits: PageLimits) -> Self {
        let properties = Arc::new(ReaderProperties::builder().build());
        Self { source: Arc::new(source), metadata, properties, limits }
    }

    /// Decodes all columns in batches of `rows` rows.
    pub(crate) fn batches(self, rows: usize) -> Result<ParquetRecordBatchReader> {
        let schema = self.metadata.file_metadata().schema_descr();
        let levels = parquet_to_arrow_field_levels(schema, ProjectionMask::all(), None)?;
        let file: Arc<dyn FileReader> = Arc::new(self);
        ParquetRecordBatchReader::try_new_with_row_groups(&levels, &file, rows, None)
    }

    /// Returns the pages of a column of a row group.
    pub(crate) fn column(&self, group: usize, column: usize) -> Result<Box<dyn PageReader>> {
        let group = self.metadata.row_group(group);
        let chunk = group.column(column);
        let rows = group.num_rows().unsigned_abs();
        let values = if chunk.column_descr().max_rep_level() == 0 { rows } else { self.limits.list_values };
        let unpacker = Unpacker::new(chunk.compression(), self.limits.bytes);
        let unpacked = if unpacker.is_some() {
            // For an uncompressed column, the reader passes on the file's bytes.
            &chunk.clone().into_builder().set_compression_codec(CompressionCodec::UNCOMPRESSED).build()?
        } else {
            chunk
        };
        let (source, properties) = (Arc::clone(&self.source), Arc::clone(&self.properties));
        let pages = SerializedPageReader::new_with_properties(source, unpacked, rows as usize, None, properties)?;
        Ok(Box::new(LimitedPages { pages, values, unpacker }))
    }
}

/// The interface of Arrow's reader, which asks for pages, but not for rows and bloom filters.
impl FileReader for Pages {
    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    fn num_row_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    fn get_row_group(&self, number: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(PageGroup { pages: self, number }))
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(refuse("is read only by columns"))
    }
}

/// The pages of a row group.
struct PageGroup<'a> {
    pages: &'a Pages,
    number: usize,
}

impl RowGroupReader for PageGroup<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.pages.metadata.row_group(self.number)
    }

    fn num_columns(&self) -> usize {
        self.metadata().num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        self.pages.column(self.number, column)
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, _: Option<Type>) -> Result<RowIter<'_>> {
        Err(refuse("is read only by columns"))
    }
}

/// The pages of a column with at most `values` values.
///
/// Data pages without values are skipped, because the decoder would treat them as the column's end.
struct LimitedPages {
    pages: SerializedPageReader<Source>,
    values: u64,
    unpacker: Option<Unpacker>,
}

impl PageReader for LimitedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        loop {
            let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
            if page.is_data_page() && page.num_values() == 0 {
                continue;
            }
            if page.is_data_page() {
                let left = self.values.checked_sub(u64::from(page.num_values()));
                self.values = left.ok_or_else(|| refuse("its pages have more values than its rows can have"))?;
            }
            return match &mut self.unpacker {
                Some(unpacker) => unpacker.unpack(page).map(Some),
                None => Ok(Some(page)),
            };
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        loop {
            match self.pages.peek_next_page()? {
                Some(page) if !page.is_dict && page.num_levels == Some(0) => self.pages.skip_next_page()?,
                other => return Ok(other),
            }
        }
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        // Only pages of version 2 know their rows; they start with a row.
        Ok(self.peek_next_page()?.is_none_or(|next| next.num_rows.is_some()))
    }
}

impl Iterator for LimitedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// A codec that this module unpacks.
#[derive(Clone, Copy)]
enum PageCodec {
    Gzip,
    Brotli,
}

/// Unpacks pages of codecs whose decoders in the Parquet library have no limit.
struct Unpacker {
    codec: PageCodec,
    /// Bytes that the rest of the column may have after unpacking.
    left: u64,
}

impl Unpacker {
    /// Creates an unpacker; `None` for codecs that respect the size in a page's header.
    fn new(compression: Compression, left: u64) -> Option<Self> {
        let codec = match compression {
            Compression::GZIP(_) => PageCodec::Gzip,
            Compression::BROTLI(_) => PageCodec::Brotli,
            _ => return None,
        };
        Some(Self { codec, left })
    }

    fn unpack(&mut self, mut page: Page) -> Result<Page> {
        match &mut page {
            // Levels of version 2 are never compressed.
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, is_compressed, .. } => {
                if *is_compressed {
                    let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                    *buf = self.unpack_bytes(buf, levels)?;
                }
            }
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = self.unpack_bytes(buf, 0)?,
        }
        Ok(page)
    }

    /// Unpacks the bytes after the first `kept` ones.
    fn unpack_bytes(&mut self, bytes: &Bytes, kept: usize) -> Result<Bytes> {
        if kept > bytes.len() {
            return Err(refuse("a page is shorter than its levels"));
        }
        let mut unpacked = bytes[..kept].to_vec();
        let packed = &bytes[kept..];
        // A page with only nulls may have no bytes.
        if !packed.is_empty() {
            let decoder: Box<dyn Read> = match self.codec {
                PageCodec::Gzip => Box::new(MultiGzDecoder::new(packed)),
                PageCodec::Brotli => Box::new(brotli_decompressor::Decompressor::new(packed, BUFFER)),
            };
            let found = decoder.take(self.left.saturating_add(1)).read_to_end(&mut unpacked)?;
            let left = self.left.checked_sub(found as u64);
            self.left = left.ok_or_else(|| refuse("its pages unpack to more bytes than its rows can have"))?;
        }
        Ok(unpacked.into())
    }
}

/// Size of the buffer of brotli's decoder in bytes.
const BUFFER: usize = 1 << 12;

fn refuse(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use parquet::basic::{BrotliLevel, Encoding, GzipLevel};
    use std::io::Write;

    /// `b"reuse" * 4`, compressed by `pyarrow.compress(…, codec="brotli")`.
    const BROTLI: [u8; 15] = [27, 19, 0, 0, 164, 202, 228, 106, 18, 97, 170, 56, 21, 16, 2];
    /// 64 MiB of zeros, compressed likewise.
    const BROTLI_ZEROS: [u8; 102] = [
        203, 255, 255, 63, 0, 36, 0, 226, 177, 64, 114, 239, 255, 248, 255, 255, 7, 128, 4, 64, 28, 22, 128, 238, 253,
        31, 255, 255, 255, 0, 144, 0, 136, 195, 2, 208, 189, 255, 227, 255, 255, 31, 0, 18, 0, 113, 88, 0, 186, 247,
        127, 252, 255, 255, 3, 64, 2, 32, 14, 11, 64, 247, 254, 143, 255, 255, 127, 0, 72, 0, 196, 97, 1, 232, 222,
        255, 241, 255, 255, 15, 0, 9, 128, 56, 44, 0, 221, 251, 191, 252, 255, 255, 3, 32, 1, 16, 135, 5, 160, 123,
        255, 7,
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacker(codec: Compression, left: u64) -> Unpacker {
        Unpacker::new(codec, left).unwrap()
    }

    fn gzip_codec() -> Compression {
        Compression::GZIP(GzipLevel::default())
    }

    fn brotli_codec() -> Compression {
        Compression::BROTLI(BrotliLevel::default())
    }

    #[test]
    fn pages_of_both_versions_are_unpacked() {
        let text = b"reuse".repeat(4);
        for (codec, packed) in [(gzip_codec(), gzip(&text)), (brotli_codec(), BROTLI.to_vec())] {
            assert_eq!(unpacker(codec, 20).unpack_bytes(&packed.clone().into(), 0).unwrap(), text);
            let with_levels = [b"levels".as_slice(), &packed].concat();
            let page = |is_compressed| Page::DataPageV2 {
                buf: with_levels.clone().into(),
                num_values: 1,
                encoding: Encoding::PLAIN,
                num_nulls: 0,
                num_rows: 1,
                def_levels_byte_len: 4,
                rep_levels_byte_len: 2,
                is_compressed,
                statistics: None,
            };
            let unpacked = unpacker(codec, 20).unpack(page(true)).unwrap();
            assert_eq!(unpacked.buffer()[..], [b"levels".as_slice(), &text].concat());
            assert_eq!(unpacker(codec, 20).unpack(page(false)).unwrap().buffer()[..], with_levels);
        }
    }

    /// The limit covers all pages of a column.
    #[test]
    fn pages_that_unpack_beyond_the_limit_are_refused() {
        let zeros = gzip(&vec![0; 64 << 20]);
        assert!(zeros.len() < 100_000);
        for (codec, packed) in [(gzip_codec(), zeros), (brotli_codec(), BROTLI_ZEROS.to_vec())] {
            let packed: Bytes = packed.into();
            assert_eq!(unpacker(codec, 64 << 20).unpack_bytes(&packed, 0).unwrap().len(), 64 << 20);
            assert!(unpacker(codec, (64 << 20) - 1).unpack_bytes(&packed, 0).is_err());
            let mut twice = unpacker(codec, 100 << 20);
            twice.unpack_bytes(&packed, 0).unwrap();
            let error = twice.unpack_bytes(&packed, 0).unwrap_err().to_string();
            assert!(error.contains("unpack to more bytes"), "{error}");
        }
    }

    #[test]
    fn damaged_pages_are_refused() {
        for (codec, packed) in [(gzip_codec(), gzip(b"reuse")), (brotli_codec(), BROTLI.to_vec())] {
            let cut = Bytes::copy_from_slice(&packed[..packed.len() - 3]);
            assert!(unpacker(codec, 1 << 20).unpack_bytes(&cut, 0).is_err());
            assert!(unpacker(codec, 1 << 20).unpack_bytes(&cut, cut.len() + 1).is_err());
            let nothing = cut.slice(..2);
            assert_eq!(unpacker(codec, 0).unpack_bytes(&nothing, 2).unwrap(), nothing);
        }
    }
}
