//! Stopping and saving at the same step on all ranks.
use super::Engine;
use crate::error::Result;

impl<M> Engine<M> {
    /// Has the next step's handshake tell the other ranks whether this one wants to stop. Returns whether any rank
    /// wanted to in the latest step's, which is the same answer on all of them; in a world of one, `wanted`.
    pub fn agree_to_stop(&self, wanted: bool) -> bool {
        match &self.averager {
            Some(averager) => averager.agree_to_stop(wanted),
            None => wanted,
        }
    }

    /// As [`agree_to_stop`](Self::agree_to_stop), of a wish to save the state. A wish that was heard is met.
    pub fn agree_to_save(&self, wanted: bool) -> bool {
        match &self.averager {
            Some(averager) => averager.agree_to_save(wanted),
            None => wanted,
        }
    }

    /// Waits until all ranks have called this, between steps: whoever ends a process before its peers have written
    /// what they have to write may end them too. Returns how many ranks have `failed` at it; in a world of one, this
    /// one.
    ///
    /// # Errors
    /// Another rank is gone, is at something else, or does not come within the communicator's time limit.
    pub fn end_together(&self, failed: bool) -> Result<u64> {
        match &self.averager {
            Some(averager) => averager.end(failed, self.attempt),
            None => Ok(u64::from(failed)),
        }
    }
}
