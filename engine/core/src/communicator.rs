//! Many processes as one.
use crate::error::{BoxError, Error};
use crate::strides::distinct;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// The processes that train one model together. All of them make the same calls in the same order.
pub trait Communicator: Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn world_size(&self) -> usize;

    /// Meets the other ranks; called once, before all else.
    ///
    /// # Errors
    /// A rank did not come, or came with something that this one cannot be trained together with: see
    /// [`Introduction::difference`].
    fn join(&self, introduction: &Introduction) -> Result<(), BoxError>;

    /// Replaces `tensor`, contiguous and of one size and kind on all ranks, by its sum over them.
    ///
    /// # Errors
    /// A peer is gone.
    fn sum(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError>;

    /// As [`sum`](Communicator::sum), for a few numbers in the host's memory. A sequence of its own: ranks
    /// may order calls of this and of the others differently.
    ///
    /// # Errors
    /// A peer is gone.
    fn sum_on_host(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError>;

    /// Replaces `tensor` on all ranks by what it is on rank 0.
    ///
    /// # Errors
    /// A peer is gone.
    fn broadcast(&self, tensor: &Tensor) -> Result<Box<dyn Pending>, BoxError>;

    /// Called when this rank gives up midway: what is under way is left to itself.
    fn abandon(&self) {}

    /// Asked after a failure: the likely cause, such as which rank no longer answers. May take seconds.
    fn likely_cause(&self) -> Option<String> {
        None
    }
}

/// A collective under way.
pub trait Pending: Send {
    /// Whether it is over, well or not.
    ///
    /// # Errors
    /// The backend's.
    fn done(&self) -> Result<bool, BoxError>;

    /// Waits until it is over. On CUDA, only what comes next on the device waits.
    ///
    /// # Errors
    /// A peer is gone or too late.
    fn wait(self: Box<Self>) -> Result<(), BoxError>;

    /// As [`wait`](Pending::wait), where the host is to read the result and has to hear of a lost peer.
    ///
    /// # Errors
    /// A peer is gone or too late.
    fn wait_on_host(self: Box<Self>) -> Result<(), BoxError> {
        self.wait()
    }
}

/// What a rank brings along, which has to be the same on all.
#[derive(Debug, Clone, PartialEq)]
pub struct Introduction {
    /// The merged configuration.
    pub configuration: Value,
    /// A line for each parameter and buffer: name, size, kind. Others for the order in which parameters were
    /// made, the blocks, the kind of device and the run's length, which may follow from the data.
    pub model: Vec<String>,
    /// Where the parameters lie on this rank.
    pub device: Device,
}

impl Introduction {
    /// How the configuration or the model of rank `other` differs from rank 0's, if it does: the first
    /// difference, with both values.
    pub fn difference(
        (mine, my_model): (&Value, &[String]),
        other: usize,
        (theirs, their_model): (&Value, &[String]),
    ) -> Option<String> {
        if let Some((path, mine, theirs)) = differing("", mine, theirs) {
            let shown =
                |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
            return Some(format!(
                "the ranks have different configurations: {path} is {} on rank 0 and {} on rank {other}",
                shown(mine),
                shown(theirs)
            ));
        }
        let lines = my_model.len().max(their_model.len());
        let line = (0..lines).find(|&i| my_model.get(i) != their_model.get(i))?;
        let shown =
            |model: &[String]| model.get(line).map_or("nothing more", String::as_str).to_owned();
        Some(format!(
            "the ranks have different models: where rank 0 has {}, rank {other} has {}",
            shown(my_model),
            shown(their_model)
        ))
    }
}

type Difference<'v> = (String, Option<&'v Value>, Option<&'v Value>);

/// The first place where two values differ.
fn differing<'v>(path: &str, a: &'v Value, b: &'v Value) -> Option<Difference<'v>> {
    let (Value::Object(left), Value::Object(right)) = (a, b) else {
        return (a != b).then(|| (path.to_owned(), Some(a), Some(b)));
    };
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let one_sided = |key: &str, a, b| (below(key), a, b);
    for (key, a) in left {
        match right.get(key) {
            Some(b) => {
                if let Some(found) = differing(&below(key), a, b) {
                    return Some(found);
                }
            }
            None => return Some(one_sided(key, Some(a), None)),
        }
    }
    let (key, b) = right.iter().find(|(key, _)| !left.contains_key(*key))?;
    Some(one_sided(key, None, Some(b)))
}

/// A world of one: every collective is the identity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Solo;

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn join(&self, _: &Introduction) -> Result<(), BoxError> {
        Ok(())
    }

    fn sum(&self, _: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        Ok(Box::new(Solo))
    }

    fn sum_on_host(&self, _: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        Ok(Box::new(Solo))
    }

    fn broadcast(&self, _: &Tensor) -> Result<Box<dyn Pending>, BoxError> {
        Ok(Box::new(Solo))
    }
}

impl Pending for Solo {
    fn done(&self) -> Result<bool, BoxError> {
        Ok(true)
    }

    fn wait(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The error of a collective that failed while doing `operation`, with its likely cause.
pub(crate) fn failed(
    communicator: &dyn Communicator,
    operation: impl Into<String>,
    source: impl Into<BoxError>,
) -> Error {
    let source = source.into().to_string();
    // What libtorch says has a C++ stack trace from the second line on.
    let said = source.lines().next().unwrap_or_default();
    let detail = match communicator.likely_cause() {
        Some(cause) => format!("{cause} ({said})"),
        None => said.to_owned(),
    };
    Error::Ranks { rank: communicator.rank(), operation: operation.into(), detail }
}

/// Makes all ranks' `tensors` those of rank 0.
pub(crate) fn share(
    communicator: &dyn Communicator,
    tensors: &[(String, Tensor)],
) -> Result<(), Error> {
    let full = tensors.iter().filter(|(_, tensor)| tensor.numel() > 0);
    let works = full.map(|(name, tensor)| {
        let own = distinct(&tensor.detach())?;
        // A backend sends bytes of one piece of memory, and not every kind of number.
        let plain = own.f_contiguous()?;
        let sent = plain.f_reshape([-1])?.f_view_dtype(Kind::Uint8)?;
        let error = |e| failed(communicator, format!("sharing rank 0's `{name}`"), e);
        Ok((name, own, plain, communicator.broadcast(&sent).map_err(error)?))
    });
    let works = works.collect::<Result<Vec<_>, Error>>()?;
    let last = works.len().saturating_sub(1);
    for (place, (name, mut own, plain, pending)) in works.into_iter().enumerate() {
        let error = |e| failed(communicator, format!("sharing rank 0's `{name}`"), e);
        // They are done in turn. A device that waits for a rank that was lost would do so without end.
        let waited = if place == last { pending.wait_on_host() } else { pending.wait() };
        waited.map_err(error)?;
        if plain.data_ptr() != own.data_ptr() {
            tch::no_grad(|| own.f_copy_(&plain))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn difference(a: (Value, &[&str]), b: (Value, &[&str])) -> Option<String> {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        Introduction::difference((&a.0, &own(a.1)), 3, (&b.0, &own(b.1)))
    }

    #[test]
    fn differences_are_named() {
        let config = || json!({"optimizer": {"lr": 0.1}});
        assert_eq!(difference((config(), &["w"]), (config(), &["w"])), None);
        for (theirs, expected) in [
            (json!({"optimizer": {"lr": 0.2}}), "optimizer.lr is 0.1 on rank 0 and 0.2 on rank 3"),
            (json!({"optimizer": {}}), "optimizer.lr is 0.1 on rank 0 and not set on rank 3"),
            (json!({"optimizer": {"lr": 0.1}, "z": 1}), "z is not set on rank 0 and 1 on rank 3"),
        ] {
            let found = difference((config(), &[]), (theirs, &[])).expect("they differ");
            assert_eq!(found, format!("the ranks have different configurations: {expected}"));
        }
        assert_eq!(
            difference((config(), &["w [2]", "v [3]"]), (config(), &["w [2]"])).as_deref(),
            Some(
                "the ranks have different models: where rank 0 has v [3], rank 3 has nothing more"
            )
        );
    }
}
