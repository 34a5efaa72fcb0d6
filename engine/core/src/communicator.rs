//! Many processes as one.
use crate::error::{BoxError, Error};
use crate::strides::distinct;
use serde::{Deserialize, Serialize};
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
    /// What the engine cannot see: of the program, the model's code, the data.
    pub fingerprints: Vec<Fingerprint>,
    /// Where the parameters lie on this rank.
    pub device: Device,
}

/// A short text that stands for something large, such as the data, which ranks have to have alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// What it is of, after "the same": `data`.
    pub name: String,
    /// The same text for the same thing, such as a digest.
    pub value: String,
    /// What becomes of ranks that differ in it.
    pub mismatch: Mismatch,
}

/// What becomes of ranks that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mismatch {
    /// They do not train together.
    Refuse,
    /// They are told.
    Warn,
}

impl Fingerprint {
    /// `value` stands for what is called `name`.
    pub fn new(name: impl Into<String>, value: impl Into<String>, mismatch: Mismatch) -> Self {
        Fingerprint { name: name.into(), value: value.into(), mismatch }
    }
}

impl Introduction {
    /// How rank `other` differs from rank 0, whose introduction this is, if it does: the first difference, with
    /// both values.
    pub fn difference(&self, other: usize, theirs: &Introduction) -> Option<String> {
        if let Some((path, mine, theirs)) =
            differing("", &self.configuration, &theirs.configuration)
        {
            let shown =
                |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
            return Some(format!(
                "the ranks have different configurations: {path} is {} on rank 0 and {} on rank {other}",
                shown(mine),
                shown(theirs)
            ));
        }
        let lines = self.model.len().max(theirs.model.len());
        if let Some(line) = (0..lines).find(|&i| self.model.get(i) != theirs.model.get(i)) {
            let shown = |model: &[String]| {
                model.get(line).map_or("nothing more", String::as_str).to_owned()
            };
            return Some(format!(
                "the ranks have different models: where rank 0 has {}, rank {other} has {}",
                shown(&self.model),
                shown(&theirs.model)
            ));
        }
        let (name, mine, theirs) = self.mismatched(theirs, Mismatch::Refuse).next()?;
        let shown = |value: Option<&str>| value.unwrap_or("none").to_owned();
        Some(format!(
            "the ranks do not have the same {name}: its fingerprint is {} on rank 0 and {} on rank {other}",
            shown(mine),
            shown(theirs)
        ))
    }

    /// Names of what differs, where that is only to be told.
    pub fn remarks<'i>(&'i self, theirs: &'i Introduction) -> impl Iterator<Item = &'i str> {
        self.mismatched(theirs, Mismatch::Warn).map(|(name, ..)| name)
    }

    /// The fingerprints that differ, or that only one of the two has, with both values.
    fn mismatched<'i>(
        &'i self,
        theirs: &'i Introduction,
        mismatch: Mismatch,
    ) -> impl Iterator<Item = (&'i str, Option<&'i str>, Option<&'i str>)> {
        let find = |of: &'i Introduction, name: &str| {
            let found = of.fingerprints.iter().find(|print| print.name == name);
            found.map(|print| print.value.as_str())
        };
        let more =
            theirs.fingerprints.iter().filter(move |print| find(self, &print.name).is_none());
        let all = self.fingerprints.iter().chain(more);
        let all = all.filter(move |print| print.mismatch == mismatch);
        let all = all.map(move |p| (p.name.as_str(), find(self, &p.name), find(theirs, &p.name)));
        all.filter(|(_, mine, theirs)| mine != theirs)
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
        // A stride of its own, since that of a single element may be 0.
        let flat = plain.f_as_strided([plain.numel() as i64], [1i64], None)?;
        let sent = flat.f_view_dtype(Kind::Uint8)?;
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

    fn rank(
        configuration: Value,
        model: &[&str],
        prints: &[(&str, &str, Mismatch)],
    ) -> Introduction {
        let prints = prints.iter().map(|&(name, value, how)| Fingerprint::new(name, value, how));
        let model = model.iter().map(|&line| line.to_owned()).collect();
        let fingerprints = prints.collect();
        Introduction { configuration, model, fingerprints, device: Device::Cpu }
    }

    #[test]
    fn differences_are_named() {
        let config = |config| rank(config, &["w"], &[]);
        let ours = config(json!({"optimizer": {"lr": 0.1}}));
        assert_eq!(ours.difference(3, &ours.clone()), None);
        for (theirs, expected) in [
            (json!({"optimizer": {"lr": 0.2}}), "optimizer.lr is 0.1 on rank 0 and 0.2 on rank 3"),
            (json!({"optimizer": {}}), "optimizer.lr is 0.1 on rank 0 and not set on rank 3"),
            (json!({"optimizer": {"lr": 0.1}, "z": 1}), "z is not set on rank 0 and 1 on rank 3"),
        ] {
            let found = ours.difference(3, &config(theirs)).expect("they differ");
            assert_eq!(found, format!("the ranks have different configurations: {expected}"));
        }
        let (more, less) =
            (rank(json!({}), &["w [2]", "v [3]"], &[]), rank(json!({}), &["w [2]"], &[]));
        assert_eq!(
            more.difference(3, &less).as_deref(),
            Some(
                "the ranks have different models: where rank 0 has v [3], rank 3 has nothing more"
            )
        );
    }

    /// The first that differs, on either side, of those that have to be the same; the others only told.
    #[test]
    fn fingerprints_are_compared_by_name() {
        use Mismatch::{Refuse, Warn};
        let rank = |prints: &[_]| rank(json!({}), &["w"], prints);
        let data = |value| ("data", value, Refuse);
        let build = |value| ("build", value, Warn);
        let ours = rank(&[("code", "c", Refuse), build("b"), data("d")]);
        let same = "the ranks do not have the same";
        for (theirs, refused, told) in [
            (vec![("code", "c", Refuse), build("b"), data("d")], None, vec![]),
            (vec![data("d"), build("x"), ("code", "c", Refuse)], None, vec!["build"]),
            (
                vec![("code", "c", Refuse), build("x"), data("e")],
                Some("data: its fingerprint is d on rank 0 and e on rank 3"),
                vec!["build"],
            ),
            (
                vec![("code", "x", Refuse), build("b"), data("e")],
                Some("code: its fingerprint is c on rank 0 and x on rank 3"),
                vec![],
            ),
            (
                vec![("code", "c", Refuse), build("b")],
                Some("data: its fingerprint is d on rank 0 and none on rank 3"),
                vec![],
            ),
            (
                vec![("code", "c", Refuse), build("b"), data("d"), ("more", "m", Refuse)],
                Some("more: its fingerprint is none on rank 0 and m on rank 3"),
                vec![],
            ),
        ] {
            let theirs = rank(&theirs);
            let refused = refused.map(|refused| format!("{same} {refused}"));
            assert_eq!(ours.difference(3, &theirs), refused);
            assert_eq!(ours.remarks(&theirs).collect::<Vec<_>>(), told);
        }
    }
}
