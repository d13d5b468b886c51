//! A new array is one [`Dataflow`]: this one implements it outside of the crate, and all that times a product serves it.

use mercury_hardware::config::Config;
use mercury_hardware::timed::{LayerExtent, ProductOutcomes, Timed, sum_samples};
use mercury_hardware::timing::memory::{Accesses, MemoryModel, Traffic};
use mercury_hardware::timing::{Dataflow, Dealing, DealtCycles, LayerProduct, MercuryCycles, ProductModel, Work};
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::{Outcomes, VectorView, signatures, views};
use mercury_trace::geometry::{Geometry, Linear, Pass};

/// One processing element: a multiply-accumulate a cycle, and a cycle for each HIT of two neighbours in a row.
#[derive(Debug)]
struct OneElement;

impl Dataflow for OneElement {
    fn name(&self) -> &'static str {
        "one element"
    }

    fn check(&self, granularity: Granularity, _: Scope) -> Result<(), String> {
        match granularity {
            Granularity::Patch => Ok(()),
            other => Err(format!("rpq.granularity: is {other}, but one element sums whole vectors; set it to patch")),
        }
    }

    fn is_equal(&self, other: &dyn Dataflow) -> bool {
        (other as &dyn std::any::Any).is::<Self>()
    }

    fn model(&self, product: &LayerProduct) -> Box<dyn ProductModel> {
        Box::new(OneProduct(*product))
    }
}

struct OneProduct(LayerProduct);

impl ProductModel for OneProduct {
    fn baseline(&self) -> u64 {
        self.0.gemm().macs()
    }

    fn mercury(&self, work: &Work, dealt: Option<DealtCycles>) -> MercuryCycles {
        let compute = self.baseline() - work.macs_skipped() + dealt.expect("outcomes are dealt").compute;
        MercuryCycles { compute, ..MercuryCycles::default() }
    }

    fn peak_results(&self) -> Option<f64> {
        Some(1.0)
    }

    fn baseline_traffic(&self, _: &MemoryModel) -> Traffic {
        Traffic { accesses: Accesses { macs: self.baseline(), ..Accesses::default() }, stall: 0 }
    }

    fn traffic(&self, _: &MemoryModel, work: &Work, cycles: MercuryCycles) -> Traffic {
        let macs = self.baseline() - work.macs_skipped();
        Traffic { accesses: Accesses { macs, ..Accesses::default() }, stall: cycles.compute - macs }
    }

    fn dealing(&self) -> Option<Box<dyn Dealing>> {
        Some(Box::new(Neighbours::default()))
    }
}

/// HITs whose next vector is a HIT, too, by sample.
#[derive(Clone, Default)]
struct Neighbours(Vec<u64>);

impl Dealing for Neighbours {
    fn add(&mut self, view: &VectorView, outcomes: &Outcomes) {
        let layout = view.layout();
        for sample in 0..layout.samples {
            let first = sample * layout.streams * layout.positions;
            let is_hit = |vector: usize| outcomes.representative(vector) != vector;
            let pairs = (first..first + layout.positions - 1).filter(|&vector| is_hit(vector) && is_hit(vector + 1));
            self.0.push(pairs.count() as u64);
        }
    }

    fn cycles(&self, without: Option<usize>) -> DealtCycles {
        let kept = self.0.iter().enumerate().filter(|&(sample, _)| Some(sample) != without);
        DealtCycles { compute: kept.map(|(_, pairs)| pairs).sum(), ..DealtCycles::default() }
    }

    fn takes_all_samples(&self) -> bool {
        false
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn boxed_clone(&self) -> Box<dyn Dealing> {
        Box::new(self.clone())
    }
}

#[test]
fn a_new_array_is_one_dataflow() {
    let geometry = Geometry::Linear(Linear { rows: 4, in_features: 2, out_features: 3 });
    let config = Config::resolve(
        "test",
        toml::Table::new(),
        &[("array.dataflow", "os".to_owned()), ("rpq.granularity", "patch".to_owned())],
    )
    .unwrap();
    assert!(OneElement.check(config.rpq.granularity, config.mcache.scope).is_ok());
    assert!(OneElement.is_equal(&OneElement) && !OneElement.is_equal(&*config.dataflow()));
    assert!(OneElement.check(Granularity::CHANNEL_PATCH, Scope::Channel).unwrap_err().contains("set it to patch"));

    // In the first sample three HITs in a row, in the second none.
    let values = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
    let view = &views(&geometry, Pass::Forward, config.rpq.granularity, &values, 2, 1)[0];
    let signatures = signatures(view, &config.rpq);
    let outcomes = Outcomes::look_up(view.layout(), &signatures, &config.mcache, Scope::Sample);
    let hits: Vec<u64> = outcomes.counts().iter().map(|counts| counts.hit).collect();
    assert_eq!(hits, [3, 0]);

    let extent = LayerExtent::whole(&geometry, 2);
    let timed = Timed::with_dataflow(&OneElement, extent, &config, (Pass::Forward, 0), 2);
    let mut dealing = timed.dealing().expect("the array deals outcomes");
    dealing.add(view, &outcomes);
    let (lengths, counts) = ([2], outcomes.counts());
    let sums = sum_samples(counts, 1);
    let outcomes = ProductOutcomes { lengths: &lengths, counts, sums: &sums, dealing: Some(dealing.as_ref()) };
    // 8 vectors of 2 elements by 3 filters; three HITs save 6 multiply-accumulates each, two pairs cost a cycle each.
    assert_eq!(timed.baseline(), 48);
    let cycles = timed.mercury(outcomes, None);
    assert_eq!(cycles.total(), 48 - 18 + 2);
    // Without the first sample the second stands for both.
    assert_eq!(timed.mercury(outcomes, Some(0)).total(), 48);
    let traffic = timed.traffic(outcomes, cycles);
    assert_eq!((traffic.accesses.macs, traffic.stall), (30, 2));
    assert_eq!(timed.baseline_traffic().accesses.macs, 48);
}
