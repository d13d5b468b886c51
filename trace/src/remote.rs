//! Reads objects of a store (`s3://bucket/key`) like files.
//!
//! Callers are synchronous and have their own threads; requests run on this module's runtime.
//! Credentials, region and endpoint come from the environment variables of AWS's tools.

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// Size of a request in bytes; pages of a Parquet file are smaller and consecutive.
const BLOCK: u64 = 4 << 20;
/// Number of blocks kept per object, because a Parquet reader reads columns in parallel.
const BLOCKS: usize = 4;
/// Maximum bytes kept per object.
pub const MOST_KEPT: u64 = BLOCK * BLOCKS as u64;
/// Time limit for retrying a failed request.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Variable that names the endpoint of a store other than AWS's.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Whether a path is the address of an object or of a folder of objects.
pub fn is_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

/// An existing object.
#[derive(Debug, Clone)]
pub struct Object(Arc<ObjectState>);

#[derive(Debug)]
struct ObjectState {
    store: Arc<dyn ObjectStore>,
    key: Key,
    size: u64,
    /// Position and bytes of each block, in the order of requests.
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
}

impl Object {
    /// Opens an object.
    pub fn open(address: &Path) -> io::Result<Self> {
        let (store, key) = locate(address)?;
        Self::from_store(store, key)
    }

    fn from_store(store: Arc<dyn ObjectStore>, key: Key) -> io::Result<Self> {
        let size = block_on(store.head(&key))?.size;
        Ok(Self(Arc::new(ObjectState { store, key, size, blocks: Mutex::default() })))
    }

    /// Size of the object in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Returns a reader from a position on.
    pub fn reader(&self, at: u64) -> Reader {
        Reader { object: self.clone(), at }
    }

    /// Reads `length` bytes from a position on.
    pub fn bytes(&self, start: u64, length: u64) -> io::Result<Bytes> {
        let ObjectState { store, key, size, blocks } = &*self.0;
        let end = start.checked_add(length).filter(|end| end <= size);
        let end = end.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "ends before its expected content"))?;
        if length >= BLOCK {
            return block_on(store.get_range(key, start..end));
        }
        let cut = |(first, block): &(u64, Bytes)| {
            let offset = start.checked_sub(*first)?;
            (offset + length <= block.len() as u64).then(|| block.slice(offset as usize..(offset + length) as usize))
        };
        // The lock is held during a request, so that no two threads request the same block.
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = blocks.iter().rev().find_map(cut) {
            return Ok(known);
        }
        let block = block_on(store.get_range(key, start..(*size).min(start + BLOCK)))?;
        if blocks.len() == BLOCKS {
            blocks.pop_front();
        }
        blocks.push_back((start, block));
        blocks.back().and_then(cut).ok_or_else(|| io::Error::other("the store sent fewer bytes than requested"))
    }
}

/// Reads an object sequentially.
#[derive(Debug)]
pub struct Reader {
    object: Object,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.object.size().saturating_sub(self.at);
        let length = rest.min(buffer.len() as u64).min(BLOCK - 1);
        let bytes = self.object.bytes(self.at, length)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += length;
        Ok(bytes.len())
    }
}

/// Finds the store of an address and the key in it. Each store is created once and keeps its
/// connections.
fn locate(address: &Path) -> io::Result<(Arc<dyn ObjectStore>, Key)> {
    static STORES: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());
    let wrong = |reason: String| io::Error::new(ErrorKind::InvalidInput, reason);
    let text = address.to_str().ok_or_else(|| wrong("is not UTF-8".to_owned()))?;
    let url = Url::parse(text).map_err(|error| wrong(format!("is not an address: {error}")))?;
    let bucket = url
        .host_str()
        .filter(|_| url.scheme() == "s3")
        .ok_or_else(|| wrong("is not a supported address; give a folder, or s3://BUCKET/FOLDER".to_owned()))?;
    let key = Key::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(bucket) {
        return Ok((Arc::clone(store), key));
    }
    // The time limit ends retries, not their number; pauses between them grow to 15 s.
    let retry = RetryConfig { max_retries: 100, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    if std::env::var(ENDPOINT).is_ok_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.build().map_err(|error| describe_refusal(&error))?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    stores.insert(bucket.to_owned(), Arc::clone(&store));
    Ok((store, key))
}

/// Runs a request to its end.
fn block_on<T>(request: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
    static RUNTIME: LazyLock<io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build());
    let runtime = RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    runtime.block_on(request).map_err(|error| describe_refusal(&error))
}

fn describe_refusal(error: &object_store::Error) -> io::Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Other,
    };
    let remedy = "AWS_REGION and the credentials in the environment";
    io::Error::new(kind, format!("the object store refused ({error}); check the address, and {ENDPOINT}, {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn object(bytes: &[u8]) -> Object {
        let (store, key) = (InMemory::new(), Key::from("trace/manifest.json"));
        block_on(store.put(&key, bytes.to_vec().into())).unwrap();
        Object::from_store(Arc::new(store), key).unwrap()
    }

    #[test]
    fn any_range_equals_the_object_s() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|i| (i * 7 + i / 251) as u8).collect();
        let object = object(&bytes);
        let (size, ends) = (object.size(), [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5, 3 * BLOCK + 17]);
        assert_eq!(size, bytes.len() as u64);
        // The second round finds blocks that are kept and blocks that were dropped.
        for start in ends.into_iter().chain(ends) {
            for length in [0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 3].into_iter().filter(|length| start + length <= size) {
                let found = object.bytes(start, length).unwrap();
                assert!(found == bytes[start as usize..(start + length) as usize], "{length} from {start}");
            }
            let mut rest = Vec::new();
            object.reader(start).read_to_end(&mut rest).unwrap();
            assert!(rest == bytes[start as usize..], "from {start}");
        }
        for (start, length) in [(size, 1), (size - 1, 2), (0, size + 1), (u64::MAX, 1)] {
            assert_eq!(
                object.bytes(start, length).unwrap_err().kind(),
                ErrorKind::UnexpectedEof,
                "{length} from {start}"
            );
        }
    }

    #[test]
    fn missing_objects_and_other_addresses_are_refused() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        assert_eq!(Object::from_store(store, Key::from("none")).unwrap_err().kind(), ErrorKind::NotFound);
        for address in ["gs://bucket/trace", "s3:///trace", "http://host/trace", "://"] {
            assert!(is_address(Path::new(address)), "{address}");
            assert_eq!(Object::open(Path::new(address)).unwrap_err().kind(), ErrorKind::InvalidInput, "{address}");
        }
        assert!(!is_address(Path::new("folder/trace")) && !is_address(Path::new("C:/trace")));
    }
}
