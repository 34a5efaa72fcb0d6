//! What the demo leaves: a table, `summary.json` and a picture.
use super::arms::{Record, Step, Validation};
use super::completion::{Completion, Word};
use super::figures::{EqualTime, Figures};
use serde::Serialize;
use serde_json::Value;
use trainyard_figures::chart::{Chart, Mark, Panel, Place, Series};
use trainyard_run::progress::Smooth;

const OFF: &str = "#6e7781";
const ON: &str = "#d4570a";

/// `summary.json`. Times are means in milliseconds over the steps in which theta had settled.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Time of a step without layer dropping.
    pub off_ms: f64,
    /// Time of a step with it.
    pub on_ms: f64,
    /// Mean number of blocks that ran with it.
    pub realised_depth: f64,
    /// Blocks of the model.
    pub blocks: usize,
    /// 1 - on_ms / off_ms.
    pub saving: f64,
    /// Share of a step's time that goes when every gate is closed: 1 - closed_ms / open_ms.
    pub s: f64,
    /// s (1 - realised_depth / blocks).
    pub promised: f64,
    /// saving / promised.
    pub share: f64,
    /// At the end of training without layer dropping.
    pub off_validation_loss: f64,
    /// At the end of training with it, at full depth all the same.
    pub on_validation_loss: f64,
    /// After the same time; null where one of them was not evaluated before.
    pub equal_time: Option<EqualTime>,
    /// Of a model that knows how often each token occurs, and nothing else.
    pub unigram_loss: f64,
    /// Standard errors of what is above, and of what `s` is made of.
    pub spread: Spread,
    /// Time of a step with every gate open.
    pub open_ms: f64,
    /// Time of a step with every gate closed.
    pub closed_ms: f64,
    /// How many of each.
    pub open_closed_pairs: usize,
    /// Steps of each training.
    pub steps: usize,
    /// First step, from 0, from which theta stays within 1 % of its last value.
    pub settled_from_step: usize,
    /// Steps of each training from there on: those that are timed.
    pub timed_steps: usize,
    /// theta in the last step.
    pub theta: Option<f64>,
    /// Numbers that the model learns.
    pub parameters: usize,
    /// Threads that libtorch computes with.
    pub threads: i32,
    /// Wall-clock time of both trainings, their evaluations and the open and closed steps.
    pub training_seconds: f64,
    /// Sentences, completed after the last step.
    pub completions: Vec<Completion>,
    /// Losses over the run.
    pub validation: Vec<Validation>,
    /// The configuration of the run with layer dropping.
    pub config: Value,
}

/// Standard errors, by the figure's name; null where there is only one value.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Spread {
    pub off_ms: f64,
    pub on_ms: f64,
    pub realised_depth: f64,
    pub saving: f64,
    pub s: f64,
    pub promised: f64,
    pub share: f64,
    pub open_ms: f64,
    pub closed_ms: f64,
}

impl Summary {
    /// `config`: of the run with layer dropping.
    pub fn new(record: &Record, config: Value) -> Self {
        let f = Figures::new(record);
        let last = record.validation.last();
        Summary {
            off_ms: 1e3 * f.off.value,
            on_ms: 1e3 * f.on.value,
            realised_depth: f.depth.value,
            blocks: record.blocks,
            saving: f.saving.value,
            s: f.gateable.value,
            promised: f.promised.value,
            share: f.share.value,
            off_validation_loss: last.map_or(f64::NAN, |v| v.off),
            on_validation_loss: last.map_or(f64::NAN, |v| v.on),
            equal_time: EqualTime::new(record),
            unigram_loss: record.unigram_loss,
            spread: Spread {
                off_ms: 1e3 * f.off.error,
                on_ms: 1e3 * f.on.error,
                realised_depth: f.depth.error,
                saving: f.saving.error,
                s: f.gateable.error,
                promised: f.promised.error,
                share: f.share.error,
                open_ms: 1e3 * f.open.error,
                closed_ms: 1e3 * f.closed.error,
            },
            open_ms: 1e3 * f.open.value,
            closed_ms: 1e3 * f.closed.value,
            open_closed_pairs: record.pairs.len(),
            steps: record.on.len(),
            settled_from_step: f.settled_from,
            timed_steps: record.on.len() - f.settled_from,
            theta: record.on.last().and_then(|step| step.theta),
            parameters: record.parameters,
            threads: tch::get_num_threads(),
            training_seconds: record.seconds,
            completions: record.completions.clone(),
            validation: record.validation.clone(),
            config,
        }
    }

    /// As JSON; what is not a number is null.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers, texts and lists") + "\n"
    }
}

/// The table that the demo ends with.
pub fn table(s: &Summary) -> String {
    let e = &s.spread;
    let ms = |value, error| with_error(value, error, 1);
    let part = |value, error| with_error(value, error, 3);
    let depth = with_error(s.realised_depth, e.realised_depth, 2);
    let loss = |loss: f64| format!("{loss:.4}");
    let less = |loss: f64| format!("{:.3}", s.unigram_loss - loss);
    let two = |name: &str, off: String, on: String| format!("{name:<22}{off:>16}{on:>18}\n");
    let one = |name: &str, value: String, what: String| format!("{name:<22}{value:>16}   {what}\n");
    [
        two("layer dropping", "off".to_owned(), "on".to_owned()),
        two("ms a step", ms(s.off_ms, e.off_ms), ms(s.on_ms, e.on_ms)),
        two("layers that ran", s.blocks.to_string(), depth),
        two("validation loss", loss(s.off_validation_loss), loss(s.on_validation_loss)),
        two("less than frequencies", less(s.off_validation_loss), less(s.on_validation_loss)),
        s.equal_time.map_or(String::new(), |t| {
            two("loss at equal time", loss(t.off), loss(t.on))
        }),
        "\n".to_owned(),
        one(
            "saving",
            part(s.saving, e.saving),
            format!("1 - on / off; on takes {:.3} of the time", s.on_ms / s.off_ms),
        ),
        one(
            "s",
            part(s.s, e.s),
            format!("of the time goes with all layers: 1 - {:.1} / {:.1} ms", s.closed_ms, s.open_ms),
        ),
        one(
            "promised",
            part(s.promised, e.promised),
            format!("s (1 - {:.2} / {})", s.realised_depth, s.blocks),
        ),
        one("share of the promise", part(s.share, e.share), "saving / promised".to_owned()),
        format!(
            "\n+- is the standard error. Times are means of {} steps each, from step {} on: theta is within\n\
             1 % of {:.3} from there. s is from {} steps with all layers and {} with none, in between.\n\
             Validation is at full depth, after the last step; the tokens' frequencies alone give {:.3}.\n\
             {}{} steps each, {:.1} million parameters, {} threads; {:.0} s in all.\n",
            s.timed_steps,
            s.settled_from_step,
            s.theta.unwrap_or(1.0),
            s.open_closed_pairs,
            s.open_closed_pairs,
            s.unigram_loss,
            s.equal_time.as_ref().map_or(String::new(), at_equal_time),
            s.steps,
            s.parameters as f64 / 1e6,
            s.threads,
            s.training_seconds
        ),
        s.completions.iter().map(completed).collect(),
    ]
    .concat()
}

fn at_equal_time(t: &EqualTime) -> String {
    format!(
        "Equal time is {:.0} s of steps, when the quicker training is done: the other one's learning rate is\n\
         not at its end then.\n",
        t.seconds
    )
}

/// A sentence with the words that both models put in.
fn completed(completion: &Completion) -> String {
    let words = |words: &[Word]| -> String {
        let words = words.iter().map(|w| format!("{} {:.2}", w.word, w.probability));
        words.collect::<Vec<_>>().join(", ")
    };
    let Completion { sentence, off, on } = completion;
    format!("\n{sentence}\n  off   {}\n  on    {}\n", words(off), words(on))
}

fn with_error(value: f64, error: f64, digits: usize) -> String {
    match error.is_finite() {
        true => format!("{value:.digits$} +- {error:.digits$}"),
        false => format!("{value:.digits$}"),
    }
}

/// Loss over the steps, and theta with the depth.
pub fn chart(record: &Record, summary: &Summary) -> Chart {
    let series = |label: &str, colour, mark, points| Series {
        label: label.to_owned(),
        colour,
        mark,
        points,
    };
    let over = |steps: &[Step], of: &dyn Fn(&Step) -> f64| -> Vec<(f64, f64)> {
        steps.iter().enumerate().map(|(i, step)| (i as f64, of(step))).collect()
    };
    let loss = |steps: &[Step]| smoothed(over(steps, &|s| s.loss));
    let validated = |of: fn(&Validation) -> f64| -> Vec<(f64, f64)> {
        record.validation.iter().map(|v| (v.step as f64, of(v))).collect()
    };
    let frequencies = [0, record.on.len()].map(|step| (step as f64, record.unigram_loss)).to_vec();
    let blocks = record.blocks as f64;
    let depth = over(&record.on, &|s| s.depth / blocks);
    let theta = over(&record.on, &|s| s.theta.unwrap_or(1.0));
    Chart {
        title: format!(
            "Progressive Layer Dropping, BERT of {} layers: a step takes {:.2} of the time",
            record.blocks,
            summary.on_ms / summary.off_ms
        ),
        x_label: "step".to_owned(),
        panels: vec![
            Panel {
                y_label: "loss on masked tokens (nats)".to_owned(),
                y_range: None,
                series: vec![
                    series("the tokens' frequencies alone", "#8c959f", Mark::Dashes, frequencies),
                    series("off, training (running mean)", OFF, Mark::Band, loss(&record.off)),
                    series("on, training (running mean)", ON, Mark::Line, loss(&record.on)),
                    series("off, validation", OFF, Mark::Rings, validated(|v| v.off)),
                    series("on, validation at full depth", ON, Mark::Discs, validated(|v| v.on)),
                ],
                legend: Place::Top,
            },
            Panel {
                y_label: "share".to_owned(),
                y_range: Some((0.0, 1.05)),
                series: vec![
                    series("", ON, Mark::Dots, depth.clone()),
                    series(
                        "layers that ran, of all (running mean)",
                        ON,
                        Mark::Line,
                        smoothed(depth),
                    ),
                    series(
                        "theta, keep probability of the last layer",
                        "#1f6feb",
                        Mark::Dashes,
                        theta,
                    ),
                ],
                legend: Place::Bottom,
            },
        ],
    }
}

/// A running mean over some twenty steps.
fn smoothed(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut mean = Smooth::new(0.95);
    points.into_iter().map(|(x, y)| (x, mean.push(y))).collect()
}
