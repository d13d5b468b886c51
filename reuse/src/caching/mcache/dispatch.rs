//! Looks up runs with the vector instructions that a cache was made for.

use super::narrow::Narrow;
#[cfg(target_arch = "x86_64")]
use super::sets::Sets;
use super::table::Table;
use super::{Isa, LookupRun, plain};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::caching::counts::Counts;

impl Narrow {
    /// Looks up the vectors of a run.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run_narrow(self, run),
            _ => plain::run(self, run),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Sets {
    /// Looks up the vectors of a run.
    ///
    /// # Panics
    /// If the run lacks the signature of a vector that was looked up since the flush, or if a
    /// vector's number does not fit 32 bits.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        self.record_run(&run);
        match self.isa {
            Isa::Avx512 => avx512::run(self, run),
            _ => avx2::run(self, run),
        }
    }
}

impl Table {
    /// Looks up the vectors of a run.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run_table(self, run),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run_table(self, run),
            _ => self.run_as_compiled(run),
        }
    }
}
