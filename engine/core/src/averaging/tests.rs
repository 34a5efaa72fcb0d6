//! Averaging between two ranks that are the same, without a network.
use super::*;
use crate::communicator::{Introduction, Pending};
use std::sync::Mutex;
use tch::Device;

/// A world of two, in which the other rank does just what this one does: every sum is twice what is given.
/// It writes down the sizes of the sums.
#[derive(Clone, Default)]
pub(super) struct Twins {
    sums: Arc<Mutex<Vec<usize>>>,
    /// How many words the other rank is late by, in times that somebody asks.
    late: Arc<Mutex<u32>>,
    /// What the other's words are about, and its attempt, if they are not as ours.
    other: Option<[f64; 2]>,
}

impl Twins {
    pub fn new() -> Self {
        Twins::default()
    }

    pub fn with_header(other: [f64; 2]) -> Self {
        Twins { other: Some(other), ..Twins::default() }
    }

    fn sums(&self) -> Vec<usize> {
        self.sums.lock().expect("no test panics with it").clone()
    }
}

/// Over once it was asked for so many times.
struct Late(Arc<Mutex<u32>>);

impl Pending for Late {
    fn done(&self) -> std::result::Result<bool, BoxError> {
        let mut late = self.0.lock().expect("no test panics with it");
        *late = late.saturating_sub(1);
        Ok(*late == 0)
    }

    fn wait(self: Box<Self>) -> std::result::Result<(), BoxError> {
        Ok(())
    }
}

impl Communicator for Twins {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        2
    }

    fn join(&self, _: &Introduction) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn sum(&self, tensor: &Tensor) -> std::result::Result<Box<dyn Pending>, BoxError> {
        self.sums.lock().expect("no test panics with it").push(tensor.numel());
        tch::no_grad(|| tensor.shallow_clone().f_mul_scalar_(2.0).map(drop))?;
        Ok(Box::new(Late(Arc::default())))
    }

    fn sum_on_host(&self, tensor: &Tensor) -> std::result::Result<Box<dyn Pending>, BoxError> {
        let mut numbers = Vec::<f64>::try_from(tensor)?;
        let own = numbers.clone();
        numbers.iter_mut().for_each(|number| *number *= 2.0);
        if let Some([about, attempt]) = self.other {
            let header = [about, about * about, attempt, attempt * attempt];
            (0..4).for_each(|i| numbers[i] = own[i] + header[i]);
        }
        tensor.shallow_clone().f_copy_(&Tensor::from_slice(&numbers))?;
        Ok(Box::new(Late(self.late.clone())))
    }

    fn broadcast(&self, _: &Tensor) -> std::result::Result<Box<dyn Pending>, BoxError> {
        Ok(Box::new(Late(Arc::default())))
    }
}

/// Four blocks of a weight each, `blocks.0.w` to `blocks.3.w`, of sizes 1 to 4.
fn blocks() -> (Vec<(String, Tensor)>, Vec<BlockInfo>) {
    let weight = |i: i64| {
        let weight = Tensor::ones([i + 1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (format!("blocks.{i}.w"), weight)
    };
    let block = |i: i64| BlockInfo { name: format!("blocks.{i}"), sublayers: Vec::new() };
    ((0..4).map(weight).collect(), (0..4).map(block).collect())
}

fn averager(twins: &Twins, parameters: &[(String, Tensor)], blocks: &[BlockInfo]) -> Averager {
    let options = Averaging { bucket_elements: 1, ..Averaging::default() };
    let communicator = Arc::new(twins.clone());
    Averager::new(communicator, options, parameters, &[0, 1, 2, 3], blocks).expect("leaves")
}

/// One after the other, from the first block to the last; `used`: which.
fn loss(parameters: &[(String, Tensor)], used: &[usize]) -> Tensor {
    let x = Tensor::from(1f32);
    used.iter().fold(x, |x, &i| x * parameters[i].1.sum(Kind::Float))
}

#[test]
fn buckets_leave_while_the_backward_pass_runs() {
    let (parameters, blocks) = blocks();
    let twins = Twins::new();
    let averager = averager(&twins, &parameters, &blocks);
    let earlier = loss(&parameters, &[1, 3]);
    earlier.backward();
    assert_eq!(twins.sums(), [0; 0], "an earlier micro-batch sends nothing");
    let loss = loss(&parameters, &[0, 1, 2]);
    averager.begin(Some(&loss), 4, 4.0, 0).unwrap();
    assert_eq!(twins.sums(), [0; 0], "nothing goes before the backward pass");
    loss.backward();
    // The last block ran in the earlier micro-batch alone, and goes first all the same.
    assert_eq!(twins.sums(), [4, 3, 2, 1], "all have left before `finish` is called");
    let losses = [(earlier, 2), (loss, 2)];
    let found = averager.finish(&losses, 0).unwrap();
    assert_eq!((found.count, found.factor, found.bytes), (8, 1.0, 40));
    // 1 x 2 x 3, and 2 x 4 of the earlier one.
    assert_eq!(found.loss.double_value(&[]), 7.0);
    let gradient = |i: usize| parameters[i].1.grad().double_value(&[0]);
    // The normaliser is 4 and both together count 8: half, twice.
    assert_eq!([0, 1, 2, 3].map(gradient), [6.0, 3.0 + 4.0, 2.0, 2.0]);
}

#[test]
fn what_nobody_uses_stays_where_it_is() {
    let (parameters, blocks) = blocks();
    let twins = Twins::new();
    let averager = averager(&twins, &parameters, &blocks);
    let loss = loss(&parameters, &[0, 2]);
    averager.begin(Some(&loss), 1, 1.0, 0).unwrap();
    loss.backward();
    assert_eq!(twins.sums(), [3, 1]);
    averager.finish(&[(loss, 1)], 0).unwrap();
    let defined = |i: usize| parameters[i].1.grad().defined();
    assert_eq!([0, 1, 2, 3].map(defined), [true, false, true, false]);
}

/// The others' word comes late: buckets wait for it and not the backward pass.
#[test]
fn a_late_word_holds_back_buckets_only() {
    for late in [2, 3, 100] {
        let (parameters, blocks) = blocks();
        let twins = Twins::new();
        *twins.late.lock().unwrap() = late;
        let averager = averager(&twins, &parameters, &blocks);
        let loss = loss(&parameters, &[0, 1, 2, 3]);
        averager.begin(Some(&loss), 1, 1.0, 0).unwrap();
        loss.backward();
        let before = twins.sums().len();
        assert_eq!(before, if late < 100 { 4 } else { 0 }, "late by {late}");
        averager.finish(&[(loss, 1)], 0).unwrap();
        assert_eq!(twins.sums()[..4], [4, 3, 2, 1]);
    }
}

/// A gradient that the graph of the loss did not show cannot be averaged any more.
#[test]
fn gradients_out_of_nowhere_are_an_error() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    let first = loss(&parameters, &[0]);
    averager.begin(Some(&first), 1, 1.0, 0).unwrap();
    first.backward();
    loss(&parameters, &[1]).backward();
    let error = averager.finish(&[(first, 1)], 0).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("`blocks.1.w` has a gradient"), "{error}");
}

#[test]
fn a_step_that_failed_midway_is_the_last() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    let first = loss(&parameters, &[0]);
    averager.begin(Some(&first), 1, 1.0, 0).unwrap();
    averager.cancel();
    let error = averager.begin(Some(&first), 1, 1.0, 1).unwrap_err().to_string();
    assert_eq!(error, "rank 0: a step failed: a step failed on this rank midway");
}

#[test]
fn a_step_that_counts_nothing_leaves_the_next_as_it_was() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    averager.begin(None, 0, 1.0, 0).unwrap();
    let nothing = averager.finish(&[], 0).unwrap();
    assert_eq!(nothing.count, 0);
    assert!(nothing.loss.double_value(&[]).is_nan());
    let first = loss(&parameters, &[0]);
    averager.begin(Some(&first), 1, 1.0, 0).unwrap();
    first.backward();
    averager.finish(&[(first, 1)], 0).unwrap();
}

#[test]
fn evaluations_and_figures_are_put_together() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    let mut part = Sums { loss: 3.0, count: 2, cut: 1, ..Sums::default() };
    let all = averager.add_up(part, 0).unwrap();
    assert_eq!(all, Sums { loss: 6.0, count: 4, cut: 2, ..Sums::default() });
    assert_eq!(all.who_failed(), None);
    part.fail(3);
    assert_eq!(part.who_failed().as_deref(), Some("rank 3"));
    assert_eq!(averager.add_up(part, 0).unwrap().who_failed().as_deref(), Some("2 ranks"));
    let mut metrics = [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)].into();
    averager.mean(&mut metrics, 0).unwrap();
    assert_eq!(metrics["a"], 1.5);
}

/// What one rank wants in a step, all know when it has ended; not before, and no longer than it wants it.
#[test]
fn a_wish_to_stop_goes_with_a_step() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    let step = |attempt| {
        let loss = loss(&parameters, &[0]);
        averager.begin(Some(&loss), 4, 4.0, attempt).unwrap();
        loss.backward();
        averager.finish(&[(loss, 4)], attempt).map(drop).unwrap();
    };
    step(0);
    assert!(!averager.agree_to_stop(true), "nobody has heard of it");
    step(1);
    assert!(averager.agree_to_stop(false), "both have said so");
    step(2);
    assert!(!averager.agree_to_stop(false));
}

/// A wish to save is met once, however long it is held.
#[test]
fn a_wish_to_save_is_met_once() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    let met = |attempt, wanted| {
        let loss = loss(&parameters, &[0]);
        averager.begin(Some(&loss), 4, 4.0, attempt).unwrap();
        loss.backward();
        averager.finish(&[(loss, 4)], attempt).map(drop).unwrap();
        averager.agree_to_save(wanted)
    };
    let met: Vec<_> = (0..6).map(|attempt| met(attempt, attempt < 4)).collect();
    assert_eq!(met, [false, true, false, true, false, false]);
}

#[test]
fn all_know_at_the_end_how_many_failed() {
    let (parameters, blocks) = blocks();
    let averager = averager(&Twins::new(), &parameters, &blocks);
    assert_eq!([averager.end(false, 3).unwrap(), averager.end(true, 3).unwrap()], [0, 2]);
}
