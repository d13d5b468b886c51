//! The learning rate by step.

use clap::ValueEnum;

/// The decay of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decay {
    /// No decay.
    Constant,
    /// By a factor every N steps.
    Step,
    /// Along half a cosine to 0 at the last step (Loshchilov and Hutter, SGDR, ICLR 2017).
    Cosine,
    /// By the inverse square root of the step (Vaswani et al., 2017, section 5.3).
    InverseSqrt,
}

/// The learning rate by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Maximum rate.
    pub peak: f64,
    /// Steps in which the rate rises linearly to the peak.
    pub warmup: u64,
    /// The decay after the warm-up.
    pub decay: Decay,
    /// [`Decay::Step`]: steps between two reductions, counted from the end of the warm-up.
    pub every: u64,
    /// [`Decay::Step`]: factor of each reduction.
    pub factor: f64,
    /// Steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// A rate that stays the same.
    pub fn constant(rate: f64) -> Self {
        Self { peak: rate, warmup: 0, decay: Decay::Constant, every: 1, factor: 1.0, steps: 0 }
    }

    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        self.rate_with_peak(self.peak, step)
    }

    /// The rate of a step, counted from 0, with another maximum rate.
    pub fn rate_with_peak(&self, peak: f64, step: u64) -> f64 {
        if step < self.warmup {
            return peak * (step + 1) as f64 / self.warmup as f64;
        }
        let after = step - self.warmup;
        let scale = match self.decay {
            Decay::Constant => 1.0,
            Decay::Step => self.factor.powf((after / self.every.max(1)) as f64),
            Decay::Cosine => {
                let rest = (self.steps - self.warmup).max(1);
                0.5 * (1.0 + (std::f64::consts::PI * after as f64 / rest as f64).cos())
            }
            Decay::InverseSqrt => (self.warmup.max(1) as f64 / (step + 1) as f64).sqrt().min(1.0),
        };
        peak * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, steps: &[u64]) -> Vec<f64> {
        let schedule = Schedule { peak: 0.8, warmup: 4, decay, every: 10, factor: 0.5, steps: 104 };
        steps.iter().map(|&step| (schedule.rate(step) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn rates_rise_to_the_peak_and_decay_from_it() {
        for decay in [Decay::Constant, Decay::Step, Decay::Cosine, Decay::InverseSqrt] {
            assert_eq!(rates(decay, &[0, 1, 3]), [0.2, 0.4, 0.8], "{decay:?}");
        }
        assert_eq!(rates(Decay::Constant, &[4, 103]), [0.8, 0.8]);
        assert_eq!(rates(Decay::Step, &[4, 13, 14, 24]), [0.8, 0.8, 0.4, 0.2]);
        assert_eq!(rates(Decay::Cosine, &[4, 54, 104]), [0.8, 0.4, 0.0]);
        assert_eq!(rates(Decay::InverseSqrt, &[15, 63]), [0.4, 0.2]);
    }
}
