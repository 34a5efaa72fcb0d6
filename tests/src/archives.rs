//! TorchScript files byte by byte, for what torch.jit.save would not write.

/// The checksum of zip archives: CRC-32, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A zip archive of stored records, as small as can be; `claimed` is what each says of its size.
#[must_use]
pub fn archive(records: &[(&str, &[u8])], claimed: Option<u32>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in records {
        let (offset, size) = (out.len() as u32, data.len() as u32);
        let mut common = Vec::new();
        // Version, flags, method, time, date, checksum, sizes, lengths of name and extra field.
        common.extend([20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat());
        common
            .extend([checksum(data), size, claimed.unwrap_or(size)].map(u32::to_le_bytes).concat());
        common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        out.extend(b"PK\x03\x04".iter().chain(&common));
        out.extend(name.bytes().chain(data.iter().copied()));
        directory.extend(b"PK\x01\x02\x14\0".iter().chain(&common));
        directory.extend([0u8; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (count, at) = (records.len() as u16, out.len() as u32);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].map(u16::to_le_bytes).concat());
    out.extend([directory.len() as u32, at].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

/// What pickles a text.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// What pickles a number.
#[must_use]
pub fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

/// What pickles a tuple of what these pickle.
#[must_use]
pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

/// What pickles a class or function.
#[must_use]
pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// What pickles an object of a class of the script, with what pickles its attributes.
#[must_use]
pub fn object(class: &str, attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let items = attributes.iter().map(|(name, value)| [&text(name), *value].concat());
    [&global("__torch__", class)[..], b")\x81}(", &items.collect::<Vec<_>>().concat(), b"ub"]
        .concat()
}

/// What pickles a tensor in float32 that lies in `record`, which is said to have `count` elements.
#[must_use]
pub fn tensor(record: &str, count: i64, offset: i64, sizes: &[i64], strides: &[i64]) -> Vec<u8> {
    let ints = |numbers: &[i64]| tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>());
    let kind = global("torch", "FloatStorage");
    let storage = tuple(&[text("storage"), kind, text(record), text("cpu"), int(count)]);
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let storage = [storage, b"Q".to_vec()].concat();
    let parts = [storage, int(offset), ints(sizes), ints(strides), b"\x88".to_vec(), hooks];
    [global("torch._utils", "_rebuild_tensor_v2"), tuple(&parts), b"R".to_vec()].concat()
}
