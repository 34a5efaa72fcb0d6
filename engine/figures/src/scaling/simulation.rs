//! A step of many ranks, simulated.
//!
//! Each rank computes forward and backward at its own gates; the bucket that all of them have ready next
//! goes round a ring (Patarasuk and Yuan 2009, <https://doi.org/10.1016/j.jpdc.2008.09.002>) while they
//! compute on, one exchange at a time, in the order of the layout. An exchange takes a message's way and
//! its bytes over the link, and processor time of every rank, which its computing then lacks. When the last
//! bucket has come back, every rank updates all that any of them used.
use super::{Figures, Link, Unit};
use serde::Serialize;
use std::ops::Range;
use trainyard::Moment;
use trainyard_plugins::progressive_layer_drop::config::Ranks;
use trainyard_plugins::progressive_layer_drop::gates::{Gate, Law, gates};
use trainyard_plugins::progressive_layer_drop::sites::Sites;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario<'a> {
    /// Ranks, at least 1.
    pub ranks: u32,
    /// Layer dropping; none: every block runs.
    pub dropping: Option<Dropping<'a>>,
    /// Elements of a bucket.
    pub bucket_elements: u64,
    /// The way between neighbours.
    pub link: Link,
}

/// Layer dropping in a simulation.
#[derive(Debug, Clone)]
pub struct Dropping<'a> {
    /// The law of the gates.
    pub law: Law,
    /// What gates are drawn for: whole blocks, as many as the figures have.
    pub sites: &'a Sites,
    /// Seed of the draws.
    pub seed: u64,
    /// The steps that are simulated.
    pub attempts: Range<u64>,
}

/// Means over the simulated steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Prediction {
    /// Time of a step.
    pub seconds: f64,
    /// What of it a rank computes, on average over the ranks; it waits in the rest.
    pub computing_seconds: f64,
    /// Bytes of gradients that a rank gives to be summed.
    pub bytes: f64,
    /// Bytes that a rank sends over its link.
    pub bytes_on_the_wire: f64,
    /// Blocks that a rank runs.
    pub depth: f64,
}

/// Predicts the step of `scenario` from what one rank takes.
///
/// With gates, the mean over its attempts.
pub fn predict(figures: &Figures, scenario: &Scenario<'_>) -> Prediction {
    let buckets = buckets(&figures.units, scenario.bucket_elements);
    let blocks = figures.blocks();
    let Some(dropping) = &scenario.dropping else {
        return step(figures, scenario, &buckets, &[vec![true; blocks]]);
    };
    // Ranks that draw the same gates compute the same.
    let different = if dropping.law.ranks == Ranks::Shared { 1 } else { scenario.ranks };
    let mut sum = Prediction::default();
    for attempt in dropping.attempts.clone() {
        let now = Moment { step: attempt, attempt, micro_batch: 0 };
        let open = |rank| {
            let gates = gates(&dropping.law, dropping.sites, dropping.seed, now, rank);
            gates.iter().map(|gate| *gate != Gate::Drop).collect::<Vec<_>>()
        };
        let ranks: Vec<_> = (0..different).map(open).collect();
        sum = sum.with(&step(figures, scenario, &buckets, &ranks), |sum, one| sum + one);
    }
    let count = dropping.attempts.clone().count().max(1) as f64;
    sum.with(&sum, |sum, _| sum / count)
}

impl Prediction {
    /// `f` of each number here and there.
    fn with(&self, other: &Prediction, f: impl Fn(f64, f64) -> f64) -> Prediction {
        Prediction {
            seconds: f(self.seconds, other.seconds),
            computing_seconds: f(self.computing_seconds, other.computing_seconds),
            bytes: f(self.bytes, other.bytes),
            bytes_on_the_wire: f(self.bytes_on_the_wire, other.bytes_on_the_wire),
            depth: f(self.depth, other.depth),
        }
    }
}

/// The units of each bucket, as the engine lays them out: as many as fit, in their order; a block is never
/// divided.
fn buckets(units: &[Unit], limit: u64) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut elements = 0;
    for (i, unit) in units.iter().enumerate() {
        elements += unit.elements;
        match out.last_mut() {
            Some(bucket) if elements <= limit => bucket.end = i + 1,
            _ => {
                elements = unit.elements;
                out.push(i..i + 1);
            }
        }
    }
    out
}

/// One step; `open`: by rank that differs from the others, and block, whether it runs.
fn step(
    figures: &Figures,
    scenario: &Scenario<'_>,
    buckets: &[Range<usize>],
    open: &[Vec<bool>],
) -> Prediction {
    let Scenario { ranks, link, .. } = scenario;
    let runs = |rank: &[bool], unit: &Unit| unit.block.is_none_or(|block| rank[block]);
    let used = |unit: &Unit| open.iter().any(|rank| runs(rank, unit));
    let messages = 2.0 * f64::from(ranks - 1);
    let shares = messages / f64::from(*ranks);

    let bytes_of = |bucket: &Range<usize>| {
        let travelling = figures.units[bucket.clone()].iter().filter(|unit| used(unit));
        (travelling.map(|unit| unit.elements).sum::<u64>() * figures.element_bytes) as f64
    };
    // In a world of one nothing is copied or sent.
    let bytes: Vec<_> = match ranks {
        1 => vec![0.0; buckets.len()],
        _ => buckets.iter().map(bytes_of).collect(),
    };

    // Computing time from the step's start until a bucket may leave, of the slowest rank.
    let mut ready = vec![0.0f64; buckets.len()];
    let (mut end, mut asked, mut computing) = (0.0f64, 0.0f64, 0.0);
    for rank in open {
        let running = || figures.units.iter().filter(|unit| runs(rank, unit));
        let forward = figures.forward_seconds + running().map(|u| u.forward_seconds).sum::<f64>();
        let mut done = forward;
        for (bucket, (ready, bytes)) in buckets.iter().zip(ready.iter_mut().zip(&bytes)) {
            let units = figures.units[bucket.clone()].iter();
            done += units.filter(|u| runs(rank, u)).map(|u| u.backward_seconds).sum::<f64>();
            done += bytes * figures.copy_seconds_per_byte;
            *ready = ready.max(done);
        }
        asked = asked.max(forward);
        end = end.max(done);
        computing += done / open.len() as f64;
    }
    // The ranks agree on what they send in one short exchange after the forward.
    let agreed = asked + messages * link.hop_seconds;
    let exchange = |&bytes: &f64| {
        let processor = bytes * shares * link.processor_seconds_per_byte;
        let wire = messages * link.hop_seconds + bytes * shares / link.bytes_per_second;
        Exchange { seconds: wire.max(processor), processor }
    };
    let sent = ready.iter().zip(&bytes).filter(|(_, bytes)| **bytes > 0.0);
    let sent: Vec<_> = sent.map(|(ready, bytes)| (ready.max(agreed), exchange(bytes))).collect();
    // The losses' sum is one more short exchange.
    let gradients = overlapped(&sent, end) + messages * link.hop_seconds;

    let updated = figures.units.iter().filter(|unit| used(unit));
    let update = figures.update_seconds + updated.map(|unit| unit.update_seconds).sum::<f64>();
    let bytes: f64 = bytes.iter().sum();
    let depth = open.iter().flatten().filter(|open| **open).count() as f64 / open.len() as f64;
    Prediction {
        seconds: gradients + update,
        computing_seconds: computing + update,
        bytes,
        bytes_on_the_wire: bytes * shares,
        depth,
    }
}

/// A bucket on its way.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    /// From its start to its end.
    seconds: f64,
    /// What of a rank's processor time it takes, at most that.
    processor: f64,
}

/// When the last exchange is over and `end` seconds have been computed. `sent`: after how many seconds of
/// computing each exchange may start, and the exchange; one follows another.
fn overlapped(sent: &[(f64, Exchange)], end: f64) -> f64 {
    // The time, and how much has been computed by then.
    let (mut now, mut computed) = (0.0, 0.0f64);
    for (ready, Exchange { seconds, processor }) in sent {
        let wait = (ready - computed).max(0.0);
        now += wait + seconds;
        computed = end.min(computed + wait + seconds - processor);
    }
    now + end - computed
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::BlockInfo;
    use trainyard_plugins::progressive_layer_drop::config::{
        Config, Course, Depth, Redraw, Unit as GateUnit,
    };
    use trainyard_plugins::progressive_layer_drop::schedule::Theta;

    /// A head of 10 elements, two blocks of 100, an embedding of 50; a byte each.
    fn figures() -> Figures {
        let unit = |block, elements, forward_seconds, backward_seconds, update_seconds| Unit {
            block,
            elements,
            forward_seconds,
            backward_seconds,
            update_seconds,
        };
        Figures {
            about: String::new(),
            samples: 1,
            forward_seconds: 1.0,
            update_seconds: 0.5,
            element_bytes: 1,
            copy_seconds_per_byte: 0.0,
            units: vec![
                unit(None, 10, 0.0, 1.0, 0.0),
                unit(Some(1), 100, 2.0, 4.0, 0.25),
                unit(Some(0), 100, 2.0, 4.0, 0.25),
                unit(None, 50, 0.0, 1.0, 0.0),
            ],
            link: None,
        }
    }

    const LINK: Link =
        Link { hop_seconds: 0.0, bytes_per_second: 100.0, processor_seconds_per_byte: 0.0 };

    fn scenario(ranks: u32, bucket_elements: u64) -> Scenario<'static> {
        Scenario { ranks, dropping: None, bucket_elements, link: LINK }
    }

    fn seconds(scenario: &Scenario<'_>) -> f64 {
        predict(&figures(), scenario).seconds
    }

    #[test]
    fn buckets_by_hand() {
        let units = figures().units;
        assert_eq!(buckets(&units, 1), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(buckets(&units, 110), [0..2, 2..3, 3..4]);
        assert_eq!(buckets(&units, 210), [0..3, 3..4]);
        assert_eq!(buckets(&units, 1000), vec![0..4]);
    }

    #[test]
    fn one_rank_only_computes() {
        let found = predict(&figures(), &scenario(1, 1));
        // 1 + 4 forward, 1 + 8 + 1 backward, 1 update.
        assert_eq!((found.seconds, found.computing_seconds, found.bytes), (16.0, 16.0, 0.0));
        assert_eq!(found.depth, 2.0);
        let copies = Figures { copy_seconds_per_byte: 1.0, ..figures() };
        assert_eq!(predict(&copies, &scenario(1, 1)).seconds, 16.0);
    }

    #[test]
    fn buckets_travel_while_the_backward_pass_runs() {
        // Two ranks send each bucket once: 2.6 s in one bucket, all behind the backward pass.
        assert_eq!(seconds(&scenario(2, 1000)), 18.6);
        // In units: all but the embedding's 0.5 s are hidden.
        assert_eq!(seconds(&scenario(2, 1)), 16.5);
        // The second bucket (of the last block and the embedding, 1.5 s) shows.
        assert_eq!(seconds(&scenario(2, 150)), 17.5);
        let found = predict(&figures(), &scenario(4, 1));
        assert_eq!((found.bytes, found.bytes_on_the_wire), (260.0, 390.0));
    }

    #[test]
    fn a_slow_link_holds_all_up() {
        let link = Link { bytes_per_second: 10.0, ..LINK };
        // From the last block on, at 10 s: 10 + 10 + 5 s, and the update.
        assert_eq!(seconds(&Scenario { link, ..scenario(2, 1) }), 36.0);
    }

    #[test]
    fn messages_take_their_time() {
        let link = Link { hop_seconds: 0.125, ..LINK };
        // Two ranks, two messages a bucket: the first block's are back at 15.25 s, the embedding's at 16,
        // the losses' sum at 16.25.
        assert_eq!(seconds(&Scenario { link, ..scenario(2, 1) }), 17.25);
        // Four ranks, six messages and 1.5 times the bytes: at 16.25, 17.75 and 18.5 s.
        assert_eq!(seconds(&Scenario { link, ..scenario(4, 1) }), 19.5);
        // Before all agree, nothing leaves: after 5 s of forward and 2 s of asking the exchange begins.
        let link = Link { hop_seconds: 1.0, bytes_per_second: 1e9, ..LINK };
        let found = overlapped(&[(7.0, Exchange { seconds: 2.0, processor: 0.0 })], 6.0);
        assert_eq!(found, 9.0);
        let all = seconds(&Scenario { link, ..scenario(2, 1) });
        // From the first block on, at 14 s: its exchange, the embedding's, the losses' sum.
        assert!((all - (14.0 + 2.0 + 2.0 + 2.0 + 1.0)).abs() < 1e-6, "{all}");
    }

    #[test]
    fn processor_time_of_an_exchange_is_missing_from_computing() {
        // All of it: nothing is hidden, 2.6 s come on top.
        let link = Link { processor_seconds_per_byte: 0.01, ..LINK };
        assert!((seconds(&Scenario { link, ..scenario(2, 1) }) - 18.6).abs() < 1e-9);
        // Half: of the 2.1 s that travel during the backward pass half comes on top.
        let link = Link { processor_seconds_per_byte: 0.005, ..LINK };
        let found = seconds(&Scenario { link, ..scenario(2, 1) });
        assert!((found - (16.5 + 1.05)).abs() < 1e-9, "{found}");
    }

    #[test]
    fn copies_count() {
        let copies = Figures { copy_seconds_per_byte: 0.01, ..figures() };
        assert!((predict(&copies, &scenario(2, 1)).seconds - (16.5 + 2.6)).abs() < 1e-9);
    }

    fn sites(blocks: usize) -> Sites {
        let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: vec![] };
        let blocks: Vec<_> = (0..blocks).map(block).collect();
        Sites::new(&blocks, None, GateUnit::Block).expect("there are blocks")
    }

    fn dropping(sites: &Sites, ranks: Ranks) -> Option<Dropping<'_>> {
        let config = Config { theta: 0.5, schedule: Course::Constant, ..Config::default() };
        let theta = Theta::new(&config, None).expect("constant needs no length of the run");
        let law = Law { theta, depth: Depth::Linear, redraw: Redraw::MicroBatch, ranks };
        Some(Dropping { law, sites, seed: 42, attempts: 0..200 })
    }

    /// Twelve blocks that are all there is to compute, and a link that costs nothing.
    #[test]
    fn a_step_waits_for_the_slowest_rank() {
        let block = |block| Unit {
            block: Some(block),
            elements: 1,
            forward_seconds: 1.0,
            backward_seconds: 2.0,
            update_seconds: 0.0,
        };
        let figures = Figures {
            forward_seconds: 0.0,
            update_seconds: 0.0,
            units: (0..12).rev().map(block).collect(),
            ..figures()
        };
        let link = Link { bytes_per_second: 1e12, ..LINK };
        let sites = sites(12);
        let of = |ranks| {
            let dropping = dropping(&sites, ranks);
            predict(&figures, &Scenario { dropping, link, ..scenario(8, 12) })
        };
        let [shared, balanced, independent] =
            [Ranks::Shared, Ranks::Balanced, Ranks::Independent].map(of);
        // 27 % and, of eight ranks, 11 % as the gates' own tests have it.
        let saving = |found: &Prediction| 1.0 - found.seconds / 36.0;
        assert!((saving(&shared) - 0.27).abs() < 0.02, "{shared:?}");
        assert!((saving(&balanced) - saving(&shared)).abs() < 1e-6, "{balanced:?}");
        assert!((saving(&independent) - 0.11).abs() < 0.02, "{independent:?}");
        // What any rank runs travels.
        assert_eq!(shared.bytes, shared.depth);
        assert!(balanced.bytes > 11.0 && independent.bytes > 11.0);
        assert!((independent.computing_seconds / 3.0 - independent.depth).abs() < 1e-9);
    }

    #[test]
    fn dropped_blocks_do_not_travel_with_shared_gates() {
        let sites = sites(2);
        let shared = Scenario { dropping: dropping(&sites, Ranks::Shared), ..scenario(2, 1) };
        let found = predict(&figures(), &shared);
        assert!((found.bytes - (60.0 + 100.0 * found.depth)).abs() < 1e-9, "{found:?}");
        assert!(found.depth < 1.5 && found.depth > 1.0, "{found:?}");
        let expected = 1.0 + 2.0 + 0.5 + 0.5 + 6.25 * found.depth;
        assert!((found.seconds - expected).abs() < 1e-9, "{found:?}, not {expected}");
    }
}
