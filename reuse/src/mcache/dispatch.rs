//! Leads runs past a cache by the vector instructions that it was made for.

use super::narrow::Narrow;
#[cfg(target_arch = "x86_64")]
use super::sets::Sets;
use super::table::Table;
use super::{Isa, LookupRun, plain};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::counts::Counts;

impl Narrow {
    /// Leads a run past the cache.
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
    /// Leads a run past the cache.
    ///
    /// # Panics
    /// If the run has no signatures for vectors that were looked up since the flush, or they have no numbers.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        self.count_in(&run);
        match self.isa {
            Isa::Avx512 => avx512::run(self, run),
            _ => avx2::run(self, run),
        }
    }
}

impl Table {
    /// Leads a run past the table.
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
