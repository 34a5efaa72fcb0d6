//! Stopping at the same step on all ranks.
use super::Engine;

impl<M> Engine<M> {
    /// Has the next step's handshake tell the other ranks whether this one wants to stop. Returns whether any rank
    /// wanted to in the latest step's, which is the same answer on all of them; in a world of one, `wanted`.
    pub fn agree_to_stop(&self, wanted: bool) -> bool {
        match &self.averager {
            Some(averager) => averager.agree_to_stop(wanted),
            None => wanted,
        }
    }
}
