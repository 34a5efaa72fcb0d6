//! The header of a `.npy` file, which is text written as Python writes a dictionary
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use super::column::Element;

/// What a header says; nothing of it is held against the file's length yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub element: Element,
    pub shape: Vec<usize>,
    /// Where the numbers begin, in bytes.
    pub data: usize,
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header that is read; numpy itself stops at less.
const LONGEST: usize = 64 << 10;

/// Reads the header at the beginning of a file.
///
/// # Errors
/// What is wrong, as the end of a sentence on the file: "is not a .npy file".
pub(super) fn header(file: &[u8]) -> Result<Header, String> {
    let cut = || "is not a whole .npy file: it ends within its header".to_owned();
    let rest = file.strip_prefix(MAGIC).ok_or("is not a .npy file: numpy.save writes one")?;
    let (&version, rest) = rest.split_first().ok_or_else(cut)?;
    let (_minor, rest) = rest.split_first().ok_or_else(cut)?;
    let (length, rest) = match version {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(format!("has version {version} of the .npy format; 1 to 3 are read")),
    };
    if length > LONGEST {
        return Err(format!("has a header of {length} bytes; at most {LONGEST} are read"));
    }
    let text = rest.get(..length).ok_or_else(cut)?;
    let data = file.len() - rest.len() + length;
    let text = std::str::from_utf8(text).map_err(|_| "has a header that is not text")?;
    let (element, shape) = dictionary(text)?;
    Ok(Header { element, shape, data })
}

/// `{'descr': '<i8', 'fortran_order': False, 'shape': (3, 4), }`
fn dictionary(text: &str) -> Result<(Element, Vec<usize>), String> {
    let mut words = Words(text);
    let bad = |words: &Words<'_>| {
        format!(
            "has a header that cannot be read, at {:?}",
            words.0.chars().take(20).collect::<String>()
        )
    };
    let (mut element, mut fortran, mut shape) = (None, None, None);
    words.take('{').then_some(()).ok_or_else(|| bad(&words))?;
    while !words.take('}') {
        let key = words.quoted().ok_or_else(|| bad(&words))?;
        words.take(':').then_some(()).ok_or_else(|| bad(&words))?;
        match key {
            "descr" if words.take('[') => {
                return Err("has fields with names of their own; save one plain array".to_owned());
            }
            "descr" => {
                let descr = words.quoted().ok_or_else(|| bad(&words))?;
                element = Some(of_numpy(descr)?);
            }
            "fortran_order" => fortran = Some(words.flag().ok_or_else(|| bad(&words))?),
            "shape" => shape = Some(words.shape().ok_or_else(|| bad(&words))?),
            _ => return Err(format!("has a header with an unknown key {key:?}")),
        }
        if !words.take(',') && !words.0.trim_start().starts_with('}') {
            return Err(bad(&words));
        }
    }
    match (element, fortran, shape) {
        (Some(_), Some(true), Some(shape)) if shape.len() > 1 => {
            Err("has its first axis innermost (fortran_order); save numpy.ascontiguousarray of it"
                .to_owned())
        }
        (Some(element), Some(_), Some(shape)) => Ok((element, shape)),
        _ => Err("has a header without descr, fortran_order or shape".to_owned()),
    }
}

fn of_numpy(descr: &str) -> Result<Element, String> {
    Ok(match descr {
        "|b1" => Element::Bool,
        "|u1" => Element::U8,
        "|i1" => Element::I8,
        "<u2" => Element::U16,
        "<i2" => Element::I16,
        "<u4" => Element::U32,
        "<i4" => Element::I32,
        "<i8" => Element::I64,
        "<f2" => Element::F16,
        "<f4" => Element::F32,
        "<f8" => Element::F64,
        "|O" => {
            return Err(
                "holds pickled Python objects, which are never loaded; save an array of numbers"
                    .to_owned(),
            );
        }
        "<u8" => return Err("holds uint64, which models do not take; save int64".to_owned()),
        _ if descr.starts_with('>') => {
            return Err(format!(
                "holds {descr:?}, which is big-endian; save it as {:?}",
                descr.replace('>', "<")
            ));
        }
        _ => return Err(format!("holds {descr:?}; integers, bool and floating point are read")),
    })
}

/// The text that is left.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn take(&mut self, sign: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn flag(&mut self) -> Option<bool> {
        let text = self.0.trim_start();
        let (value, rest) = match text.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("False")?),
        };
        self.0 = rest;
        Some(value)
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        let (inside, rest) = self.0.trim_start().strip_prefix('(')?.split_once(')')?;
        self.0 = rest;
        let sizes = inside.trim().trim_end_matches(',');
        if sizes.is_empty() {
            return Some(Vec::new());
        }
        sizes.split(',').map(|size| size.trim().trim_end_matches('L').parse().ok()).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file as numpy writes it.
    pub(crate) fn written(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
        let mut file = MAGIC.to_vec();
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
        file.extend([1, 0]);
        file.extend((padded as u16).to_le_bytes());
        file.extend(format!("{text:<width$}\n", width = padded - 1).as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        for (shape, expected) in [
            ("()", vec![]),
            ("(3,)", vec![3]),
            ("(3, 4)", vec![3, 4]),
            ("(2, 0, 5)", vec![2, 0, 5]),
        ] {
            let file = written("'<i4'", shape, &[]);
            let header = header(&file).unwrap();
            assert_eq!(header, Header { element: Element::I32, shape: expected, data: file.len() });
        }
        let mut second = b"\x93NUMPY\x02\x00".to_vec();
        let text = "{\"shape\": (7L,), 'fortran_order': True, 'descr': '|b1'}\n";
        second.extend((text.len() as u32).to_le_bytes());
        second.extend(text.as_bytes());
        let header = header(&second).unwrap();
        assert_eq!(
            (header.element, header.shape),
            (Element::Bool, vec![7]),
            "one axis has one order"
        );
    }

    #[test]
    fn what_is_no_plain_array_says_why() {
        let error = |descr, shape| header(&written(descr, shape, &[])).unwrap_err();
        assert!(error("'|O'", "(3,)").starts_with("holds pickled Python objects"));
        assert!(error("'>i4'", "(3,)").ends_with("big-endian; save it as \"<i4\""));
        assert!(error("'<c8'", "(3,)").starts_with("holds \"<c8\""));
        assert!(error("[('a', '<i4')]", "(3,)").starts_with("has fields"));
        for shape in ["(-1,)", "(99999999999999999999,)", "3", "(3", "('a',)", "(3,,4)"] {
            assert!(
                error("'<i4'", shape).starts_with("has a header that cannot be read"),
                "{shape}"
            );
        }
        assert!(header(b"PK\x03\x04").unwrap_err().starts_with("is not a .npy file"));
        let fortran = written("'<i4'", "(3, 4)", &[]);
        let at = fortran.windows(5).position(|w| w == b"False").unwrap();
        let fortran = [&fortran[..at], b"True ", &fortran[at + 5..]].concat();
        assert!(header(&fortran).unwrap_err().contains("fortran_order"));
    }

    /// Whatever the bytes are, there is an answer.
    #[test]
    fn cut_and_flipped_headers_are_errors_or_headers() {
        let good = written("'<i4'", "(3, 4)", &[0; 48]);
        let length = good.len() - 48;
        for at in 0..length {
            assert!(header(&good[..at]).is_err(), "cut at {at}");
            for flip in [1, 0x20, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                drop(header(&bad));
            }
        }
        let claims = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes()].concat();
        assert!(header(&claims).unwrap_err().starts_with("has a header of 4294967295 bytes"));
    }
}
