//! The events of an event file, and the records that hold them.
//!
//! The messages are `event.proto`, `summary.proto` and `tensor.proto` of
//! <https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto>; a record is a TFRecord,
//! <https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>.
use super::wire::Message;

/// What an event file begins with.
pub const VERSION: &str = "brain.Event:2";

/// `SessionLog.START`.
const START: u64 = 1;

/// `DT_STRING`.
const STRING: u64 = 7;

/// When an event was, and where on the axis.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Seconds since 1970.
    pub wall_time: f64,
    pub step: u64,
}

impl Place {
    fn event(self) -> Message {
        Message::default().double(1, self.wall_time).int(2, self.step)
    }
}

/// The first event of a file.
pub fn version(wall_time: f64) -> Message {
    Message::default().double(1, wall_time).bytes(3, VERSION)
}

/// A run begins. What an earlier file of the folder has from this step on is no longer shown.
pub fn start(place: Place) -> Message {
    place.event().message(7, Message::default().int(1, START))
}

/// A number.
pub fn scalar(place: Place, tag: &str, value: f64) -> Message {
    summary(place, Message::default().bytes(1, tag).float(2, value as f32))
}

/// A text, which TensorBoard shows as Markdown.
pub fn text(place: Place, tag: &str, text: &str) -> Message {
    let plugin = Message::default().bytes(1, "text");
    let metadata = Message::default().message(1, plugin);
    let shape = Message::default().message(2, Message::default().int(1, 1));
    let tensor = Message::default().int(1, STRING).message(2, shape).bytes(8, text);
    summary(place, Message::default().bytes(1, tag).message(8, tensor).message(9, metadata))
}

fn summary(place: Place, value: Message) -> Message {
    place.event().message(5, Message::default().message(1, value))
}

/// Length, its checksum, the event, its checksum.
pub fn record(event: Message) -> Vec<u8> {
    let event = event.encoded();
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(&event);
    record.extend(masked(&event).to_le_bytes());
    record
}

/// A CRC32C that may itself be among the bytes of another.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `SummaryWriter` of PyTorch 2.11 wrote for `add_scalar("train/loss", 0.5, 300, walltime=1.5)`.
    #[test]
    fn a_scalar_is_as_another_program_writes_it() {
        let theirs = "2100000000000000017becf609000000000000f83f10ac022a130a110a0a747261696e2f6c6f7373150000003f\
                      b56a6431";
        let place = Place { wall_time: 1.5, step: 300 };
        let ours = record(scalar(place, "train/loss", 0.5));
        assert_eq!(ours.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), theirs);
    }
}
