//! Of one run, the figures that count.
use super::read::Run;
use super::tables::{average, best, duration, grouped, median, number};

/// A figure in large.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub label: &'static str,
    pub value: String,
    /// What to say below it; empty: nothing.
    pub detail: String,
    /// It asks for a look.
    pub fault: bool,
}

/// The cards of a run, those that it has something for.
pub fn cards(run: &Run) -> Vec<Card> {
    let card = |label, value: String, detail: String| Card { label, value, detail, fault: false };
    let column = |key: &str| run.steps.columns.get(key);
    let evaluated = best(run).map(|(step, loss)| {
        let at = format!("the best, at step {}", grouped(step));
        let losses = run.evaluations.columns.get("validation_loss");
        let detail = match losses.and_then(|losses| losses.last()).filter(|last| **last != loss) {
            Some(last) if last.is_finite() => format!("{at}; {} at the end", number(*last)),
            _ => at,
        };
        card("validation loss", number(loss), detail)
    });
    let trained = column("loss").and_then(|losses| {
        let some = losses.len().div_ceil(10);
        let mean = average(&losses[losses.len() - some..])?;
        let of = if some == 1 { "the last step".to_owned() } else { last(some) };
        Some(card("training loss", number(mean), of))
    });
    let steps = run.steps.step.last().map(|step| {
        let samples = run.steps.samples.last().filter(|samples| samples.is_finite());
        let of = samples.map_or(String::new(), |n| format!("{} samples", grouped(*n)));
        card("steps", grouped(*step), of)
    });
    let rate = column("samples_per_second")
        .and_then(|rates| median(rates))
        .map(|rate| card("samples a second", number(rate), "the median of the steps".to_owned()));
    let depth = column("realised_depth").and_then(|depth| average(depth)).map(|depth| {
        let of = blocks(run).map_or("on average".to_owned(), |blocks| {
            format!("of {blocks} on average, {:.1} % left out", 100.0 * (1.0 - depth / blocks))
        });
        card("layers that ran", number(depth), of)
    });
    let time = (run.time.total > 0.0).then(|| {
        let share = 100.0 * run.time.steps / run.time.total;
        card("time", duration(run.time.total), format!("{share:.0} % of it in steps"))
    });
    let count = |of: &str| run.marks.iter().filter(|mark| mark.text.starts_with(of)).count();
    let skipped = match count("skipped") {
        0 => None,
        n => Some(Card { fault: true, ..card("steps skipped", n.to_string(), String::new()) }),
    };
    let unread = (run.unread > 0).then(|| Card {
        fault: true,
        ..card("lines of the log", run.unread.to_string(), "cannot be read".to_owned())
    });
    [evaluated, trained, steps, time, rate, depth, skipped, unread].into_iter().flatten().collect()
}

fn last(steps: usize) -> String {
    format!("the mean of the last {} steps", grouped(steps as f64))
}

/// How many layers can be left out, from the share of the calls that ran.
fn blocks(run: &Run) -> Option<f64> {
    let (depth, share) =
        (run.steps.columns.get("realised_depth")?, run.steps.columns.get("share_of_layers")?);
    let all = depth.iter().zip(share).map(|(depth, share)| (depth / share).round());
    all.filter(|blocks| blocks.is_finite()).reduce(f64::max).filter(|blocks| *blocks > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_has() {
        let mut run = Run::default();
        assert_eq!(cards(&run), []);
        run.steps.step = (1..=20).map(f64::from).collect();
        run.steps.samples = vec![f64::NAN; 20];
        let mut losses = vec![9.0; 18];
        losses.extend([2.0, 3.0]);
        run.steps.columns.insert("loss".to_owned(), losses);
        run.steps.columns.insert("realised_depth".to_owned(), vec![3.0; 20]);
        run.steps.columns.insert("share_of_layers".to_owned(), vec![0.75; 20]);
        run.evaluations.step = vec![10.0, 20.0];
        run.evaluations.columns.insert("validation_loss".to_owned(), vec![4.0, 5.0]);
        run.unread = 2;
        let found: Vec<_> = cards(&run)
            .into_iter()
            .map(|card| (card.label, card.value, card.detail, card.fault))
            .collect();
        let expected = [
            ("validation loss", "4.000", "the best, at step 10; 5.000 at the end", false),
            ("training loss", "2.500", "the mean of the last 2 steps", false),
            ("steps", "20", "", false),
            ("layers that ran", "3.000", "of 4 on average, 25.0 % left out", false),
            ("lines of the log", "2", "cannot be read", true),
        ];
        assert_eq!(
            found,
            expected.map(|(label, value, detail, fault)| {
                (label, value.to_owned(), detail.to_owned(), fault)
            })
        );
    }
}
