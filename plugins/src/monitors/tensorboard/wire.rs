//! Protocol buffers as far as event files need them: <https://protobuf.dev/programming-guides/encoding>.

/// A message that is being put together: its fields in the order in which they are added.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    /// Whole numbers and enumerations.
    pub fn int(mut self, field: u64, value: u64) -> Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    /// A double.
    pub fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, EIGHT_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A float.
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Text or bytes.
    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.key(field, LENGTH);
        self.varint(value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    /// A message within this one.
    pub fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, value.0)
    }

    /// The encoding.
    pub fn encoded(self) -> Vec<u8> {
        self.0
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own page.
    #[test]
    fn fields_by_hand() {
        assert_eq!(Message::default().int(1, 150).encoded(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, "testing").encoded();
        assert_eq!(text, [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        let within = Message::default().message(3, Message::default().int(1, 150)).encoded();
        assert_eq!(within, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().float(2, 1.0).encoded(), [0x15, 0, 0, 0x80, 0x3f]);
        let double = Message::default().double(1, 1.0).encoded();
        assert_eq!(double, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }
}
