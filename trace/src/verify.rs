//! Verifies a trace: every file against its checksum, and all checks of reading.

use crate::checksum::{self, Checksums};
use crate::error::{Result, TraceError};
use crate::geometry::Geometry;
use crate::input;
use crate::manifest::{self, CapturedStep, TensorFile};
use crate::measurements;
use crate::tensor::TensorKind;
use crate::{Trace, evaluations, layers, steps};

/// The extent of a verification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of files with a matching checksum.
    pub files: u64,
    /// Size of these files in bytes.
    pub bytes: u64,
    /// Number of readable files without a checksum: those of a version 1 trace, and the tables of
    /// an incomplete trace, which are replaced as it grows.
    pub without_checksum: u64,
}

impl std::ops::AddAssign for Verified {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.without_checksum += other.without_checksum;
    }
}

impl Trace {
    /// Verifies the manifest and the tables.
    pub fn verify_tables(&self) -> Result<Verified> {
        let mut names = vec![manifest::FILE_NAME, layers::FILE_NAME, steps::FILE_NAME, evaluations::FILE_NAME];
        let manifest = self.manifest();
        let has_sums = manifest.complete && manifest.schema_version >= manifest::CHECKSUMS_SINCE;
        let mut verified = Verified::default();
        if has_sums {
            let path = self.dir().join(checksum::FILE_NAME);
            let sums = Checksums::read(self.dir())?.ok_or(TraceError::MissingTable { path })?;
            let listed = |name: &&str| {
                sums.names().any(|known| known == *name) || input::exists(&self.dir().join(name)).unwrap_or(true)
            };
            names.extend(measurements::FILES.into_iter().filter(listed));
            for name in names {
                sums.check(self.dir(), name)?;
                verified.files += 1;
                verified.bytes += input::size(&self.dir().join(name))?;
            }
        } else {
            verified.without_checksum = names.len() as u64;
        }
        self.steps()?;
        self.evaluations()?;
        self.measurements()?;
        Ok(verified)
    }

    /// Verifies one tensor file: its size, its checksum and its content.
    pub fn verify_tensor(&self, step: &CapturedStep, file: &TensorFile) -> Result<Verified> {
        let path = self.path(step, &file.layer, file.kind);
        let bytes = match input::size(&path) {
            Err(TraceError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TraceError::MissingTensor { path });
            }
            other => other?,
        };
        if bytes != file.bytes {
            let reason = format!("it has {bytes} bytes, {} says {}", manifest::FILE_NAME, file.bytes);
            return Err(TraceError::Damaged { path, reason });
        }
        if let Some(sum) = &file.sha256 {
            checksum::check(&path, sum, manifest::FILE_NAME)?;
        }
        let layer = self.layers().iter().find(|layer| layer.name == file.layer).expect("checked on opening");
        let has_samples = file.kind != TensorKind::Weight || matches!(layer.geometry, Geometry::Matmul(_));
        if has_samples {
            self.samples(step, layer, file.kind, 1)?.try_for_each(|part| part.map(drop))?;
        } else {
            self.tensor(step, layer, file.kind)?;
        }
        let checked = u64::from(file.sha256.is_some());
        Ok(Verified { files: checked, bytes: checked * bytes, without_checksum: 1 - checked })
    }
}
