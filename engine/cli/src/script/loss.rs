//! From what a forward returned to a loss with its count.
use super::config::{LossConfig, LossKind};
use super::culprit::LABEL;
use tch::{Kind, Reduction, Tensor};
use trainyard::{BoxError, Loss};

/// The loss of a micro-batch of so many `samples`. `output` is the one that the configuration names;
/// `labels`: [samples, ...], where it names them, on the CPU, so that no device is waited for.
///
/// # Errors
/// The output is no loss, or the labels do not fit it.
pub fn loss(
    config: &LossConfig,
    output: &Tensor,
    labels: Option<&Tensor>,
    samples: usize,
) -> Result<Loss, BoxError> {
    let labels = labels.map(|labels| compared(config, labels)).transpose()?;
    let count = match &labels {
        Some(labels) => {
            labels.f_ne(config.ignore_index)?.f_sum(Kind::Int64)?.f_int64_value(&[])? as u64
        }
        None => samples as u64,
    };
    let mean = match (config.kind, labels) {
        (LossKind::CrossEntropy, Some(labels)) => cross_entropy(config, output, &labels)?,
        _ => {
            if output.numel() != 1 || !output.is_floating_point() {
                return Err(format!(
                    "{} is {:?} of {:?}, and a loss is one number; name another output, or let the program \
                     compute it: script.loss.type = \"cross_entropy\"",
                    config.output,
                    output.kind(),
                    output.size()
                )
                .into());
            }
            output.f_reshape([0i64; 0])?
        }
    };
    Ok(Loss::mean(mean, count))
}

/// The labels that are guessed, int64.
fn compared(config: &LossConfig, labels: &Tensor) -> Result<Tensor, BoxError> {
    if labels.is_floating_point() {
        let (name, kind) = (config.labels.as_deref().unwrap_or_default(), labels.kind());
        return Err(format!(
            "labels `{name}` are {kind:?}; class numbers are whole: of rows that mark their class, as one-hot rows do, it \
             is `{name}.argmax(-1)`"
        )
        .into());
    }
    let labels = labels.f_to_kind(Kind::Int64)?;
    if !config.shift {
        return Ok(labels);
    }
    match labels.size()[..] {
        [_, time, ..] if time > 1 => Ok(labels.f_slice(1, 1, None::<i64>, 1)?),
        ref size => Err(format!("labels of {size:?} have no next position to shift to").into()),
    }
}

/// `output`: [samples, ..., classes]; `labels`: [samples, ...], shifted where that is asked.
fn cross_entropy(
    config: &LossConfig,
    output: &Tensor,
    labels: &Tensor,
) -> Result<Tensor, BoxError> {
    let logits = match output.dim() > 2 && config.shift {
        true => output.f_slice(1, None::<i64>, -1, 1)?,
        false => output.shallow_clone(),
    };
    let (size, of_labels) = (logits.size(), labels.size());
    let fits = size.split_last().is_some_and(|(_, places)| places == of_labels);
    if !fits || !logits.is_floating_point() {
        let shifted = if config.shift { ", shifted" } else { "" };
        let name = config.labels.as_deref().unwrap_or_default();
        let remedy = match of_labels.split_last() {
            Some((1, places)) if size.starts_with(places) => {
                format!("; take the last axis away: `{name}[..., 0]`")
            }
            _ if of_labels == size => format!("; of one-hot rows it is `{name}.argmax(-1)`"),
            _ => String::new(),
        };
        return Err(format!(
            "{} is {:?} of {:?}, and labels are of {:?}{shifted}: logits are [samples, ..., classes] and \
             labels [samples, ...]{remedy}",
            config.output,
            output.kind(),
            output.size(),
            of_labels
        )
        .into());
    }
    let classes = size.last().copied().unwrap_or(1);
    let (logits, labels) = (logits.f_reshape([-1, classes])?, labels.f_reshape([-1])?);
    within(config, &labels, classes)?;
    let labels = labels.f_to_device(logits.device())?;
    let none = None::<&Tensor>;
    Ok(logits.f_cross_entropy_loss(&labels, none, Reduction::Mean, config.ignore_index, 0.0)?)
}

/// That each label that is guessed is a class: a GPU would end the process over one that is not.
fn within(config: &LossConfig, labels: &Tensor, classes: i64) -> Result<(), BoxError> {
    let counted = labels.f_ne(config.ignore_index)?;
    let outside = labels.f_lt(0)?.f_logical_or(&labels.f_ge(classes)?)?.f_logical_and(&counted)?;
    let found = labels.f_masked_select(&outside)?;
    if found.numel() == 0 {
        return Ok(());
    }
    let (name, label) = (config.labels.as_deref().unwrap_or_default(), found.f_int64_value(&[0])?);
    Err(format!(
        "{LABEL}`{name}` is {label}, and {} has {classes} classes, 0 to {}; labels that are not to be guessed are \
         script.loss.ignore_index = {}",
        config.output,
        classes - 1,
        config.ignore_index
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::config::Which;

    fn config(kind: LossKind, shift: bool) -> LossConfig {
        LossConfig { kind, labels: Some("y".to_owned()), shift, ..LossConfig::default() }
    }

    fn value(config: &LossConfig, output: &Tensor, labels: &[i64], size: &[i64]) -> (f64, u64) {
        let labels = Tensor::from_slice(labels).view(size);
        let loss = loss(config, output, Some(&labels), 2).expect("a loss");
        (loss.mean.double_value(&[]), loss.count)
    }

    /// Two samples of three positions and two classes; the class of each position is sure but for e^-1.
    fn logits() -> Tensor {
        let sure = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]].concat();
        Tensor::from_slice(&[sure.clone(), sure].concat()).view([2, 3, 2])
    }

    #[test]
    fn cross_entropy_counts_what_is_guessed() {
        let config = config(LossKind::CrossEntropy, false);
        let (right, wrong) = ((1.0 + (-1f64).exp()).ln(), (1.0 + 1f64.exp()).ln());
        let (mean, count) = value(&config, &logits(), &[1, -100, 0, -100, 0, -100], &[2, 3]);
        assert_eq!(count, 3);
        assert!((mean - (2.0 * right + wrong) / 3.0).abs() < 1e-12, "{mean}");
        let (_, count) = value(&config, &logits(), &[-100; 6], &[2, 3]);
        assert_eq!(count, 0, "such a micro-batch has no part in the step");
    }

    #[test]
    fn shifted_each_position_guesses_the_next() {
        let config = config(LossKind::CrossEntropy, true);
        let right = (1.0 + (-1f64).exp()).ln();
        // Positions 0 and 1 say 1 and 0; the last says what nobody asks.
        let (mean, count) = value(&config, &logits(), &[-100, 1, 0, 7, 1, 0], &[2, 3]);
        assert_eq!(count, 4);
        assert!((mean - right).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn the_models_own_loss_is_a_mean_over_labels_or_samples() {
        let own = Tensor::from_slice(&[2.5f32]);
        assert_eq!(value(&config(LossKind::Output, false), &own, &[1, -100, 3], &[1, 3]), (2.5, 2));
        assert_eq!(value(&config(LossKind::Output, true), &own, &[1, -100, 3], &[1, 3]), (2.5, 1));
        let by_samples = loss(&LossConfig::default(), &own, None, 7).expect("a loss");
        assert_eq!(by_samples.count, 7);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |config: &LossConfig, output: &Tensor, labels: &Tensor| {
            loss(config, output, Some(labels), 2)
                .map(drop)
                .expect_err("it does not fit")
                .to_string()
        };
        let cross = config(LossKind::CrossEntropy, false);
        let message = error(&cross, &logits(), &Tensor::from_slice(&[1i64, 2]));
        assert!(
            message.starts_with("output 0 is Double of [2, 3, 2], and labels are of [2]: "),
            "{message}"
        );
        let own = LossConfig { output: Which::Name("logits".to_owned()), ..LossConfig::default() };
        let message = error(&own, &logits(), &Tensor::from_slice(&[1i64, 2]));
        assert!(
            message.starts_with("output `logits` is Double of [2, 3, 2], and a loss is one"),
            "{message}"
        );
        let message = error(&cross, &logits(), &Tensor::from_slice(&[1.5, 2.0]));
        assert!(
            message.starts_with("labels `y` are Double; class numbers are whole: "),
            "{message}"
        );
        let message = error(&cross, &logits(), &Tensor::from_slice(&[1i64; 6]).view([2, 3, 1]));
        assert!(message.ends_with("; take the last axis away: `y[..., 0]`"), "{message}");
        let message =
            error(&config(LossKind::CrossEntropy, true), &logits(), &Tensor::from_slice(&[1i64]));
        assert_eq!(message, "labels of [1] have no next position to shift to");
        let far = Tensor::from_slice(&[9i64; 6]).view([2, 3]);
        assert_eq!(
            error(&cross, &logits(), &far),
            "a label in `y` is 9, and output 0 has 2 classes, 0 to 1; labels that are not to be guessed are \
             script.loss.ignore_index = -100"
        );
    }
}
