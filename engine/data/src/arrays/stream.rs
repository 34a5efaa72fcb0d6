//! What a `.bin` file of token ids holds: nothing but ids, or those behind the header of llm.c.

use super::column::Element;
use super::config::TokenType;
use super::looks;

/// Ids in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub element: Element,
    /// Where they begin, in bytes.
    pub offset: usize,
    pub count: usize,
    /// Whether they look like ids of another width than the configuration says.
    pub doubtful: bool,
}

/// Bytes of llm.c's header: 256 numbers of 32 bits, of which the first three are the magic, the
/// version and the number of ids
/// (<https://github.com/karpathy/llm.c/blob/master/dev/data/data_common.py>).
const HEADER: usize = 1024;

/// Magic, version, and what follows: of GPT-2's and of Llama 3's tokens.
const KNOWN: [(u32, u32, Element); 2] =
    [(20_240_520, 1, Element::U16), (20_240_801, 7, Element::U32)];

/// llm.c's magic of multiple-choice questions.
const QUESTIONS: u32 = 20_240_522;

/// No vocabulary has as many ids: 16 times the largest.
const BEYOND_VOCABULARIES: i64 = 1 << 22;

/// Upper halves of 32-bit ids are below this: ids below a million.
const UPPER_HALVES: i64 = 16;

/// Shorter files are not judged by what they look like.
const FEWEST_JUDGED: usize = 64;

/// Reads what the file says of itself, and looks at a part of the ids.
///
/// # Errors
/// What is wrong, as the end of a sentence on the file.
pub(super) fn found(file: &[u8], token_type: Option<TokenType>) -> Result<Stream, String> {
    if let Some(stream) = headed(file)? {
        return Ok(stream);
    }
    let element = match token_type {
        None | Some(TokenType::Uint16) => Element::U16,
        Some(TokenType::Uint32) => Element::U32,
    };
    if is_text(file) {
        return Err("is text, and should hold token ids: tokenise it first".to_owned());
    }
    let (bytes, length) = (element.bytes(), file.len());
    if !length.is_multiple_of(bytes) {
        return Err(format!("is {length} bytes long, which is no multiple of {bytes}"));
    }
    let wide = looks_of(file);
    let doubtful = wide.is_some_and(|wide| wide > bytes);
    match (token_type, wide) {
        (Some(TokenType::Uint16), _) => {}
        (_, Some(8)) => {
            return Err(
                "looks like ids of 64 bits, for three of four numbers of 16 bits are next to 0: save them as \
                 uint32, or as .npy"
                    .to_owned(),
            );
        }
        (None, Some(_)) => {
            return Err(
                "looks like ids of 32 bits, for every second number of 16 bits is next to 0: set token_type \
                 to \"uint32\", or to \"uint16\" if these are ids"
                    .to_owned(),
            );
        }
        (Some(TokenType::Uint32), _) if !is_below(file, element, BEYOND_VOCABULARIES) => {
            return Err(format!(
                "has ids of 32 bits that are above {BEYOND_VOCABULARIES}, more than any vocabulary: is \
                 token_type \"uint16\"?"
            ));
        }
        _ => {}
    }
    Ok(Stream { element, offset: 0, count: length / bytes, doubtful })
}

/// What llm.c's header says, if there is one.
fn headed(file: &[u8]) -> Result<Option<Stream>, String> {
    let number = |at: usize| {
        let bytes = file.get(4 * at..4 * at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let Some(magic) = number(0) else { return Ok(None) };
    if magic == QUESTIONS && number(1) == Some(1) {
        return Err(
            "holds llm.c's multiple-choice questions, which are no stream of tokens".to_owned()
        );
    }
    let Some(&(_, version, element)) = KNOWN.iter().find(|known| known.0 == magic) else {
        return Ok(None);
    };
    let (Some(has), Some(count), Some(ids)) = (number(1), number(2), file.get(HEADER..)) else {
        return Err("begins as llm.c's files do, and ends within its header".to_owned());
    };
    if has != version {
        return Err(format!("begins as llm.c's files do, in version {has}; {version} is read"));
    }
    let (count, found) = (count as usize, ids.len() / element.bytes());
    if count.checked_mul(element.bytes()) != Some(ids.len()) {
        return Err(format!(
            "has llm.c's header, which says {count} ids, and {found} follow it: it is not whole"
        ));
    }
    Ok(Some(Stream { element, offset: HEADER, count, doubtful: false }))
}

/// Whether all that is looked at is letters, digits, signs and space.
fn is_text(file: &[u8]) -> bool {
    let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    file.len() >= FEWEST_JUDGED && looks::ranges(file.len()).all(|at| file[at].iter().all(text))
}

/// How many bytes the ids seem to have, if more than two: the upper halves are then all next to 0, and the
/// lower ones are not.
fn looks_of(file: &[u8]) -> Option<usize> {
    let (mut judged, mut lower, mut four, mut eight) = (0, false, true, true);
    for at in looks::ranges(file.len()) {
        let numbers: Vec<i64> = Element::U16.integers(&file[at]).collect();
        for number in numbers.chunks_exact(4) {
            let &[first, second, third, fourth] = number else { continue };
            four &= second < UPPER_HALVES && fourth < UPPER_HALVES;
            eight &= second < UPPER_HALVES && third == 0 && fourth == 0;
            if !four {
                return None;
            }
            lower |= first >= UPPER_HALVES;
            judged += 2;
        }
    }
    let wide = if eight { 8 } else { 4 };
    (lower && judged >= FEWEST_JUDGED && file.len().is_multiple_of(wide)).then_some(wide)
}

/// Whether at least half of the ids looked at are below `most`.
fn is_below(file: &[u8], element: Element, most: i64) -> bool {
    let (mut below, mut all) = (0, 0);
    for at in looks::ranges(file.len()) {
        element.integers(&file[at]).for_each(|id| {
            below += usize::from(id < most);
            all += 1;
        });
    }
    2 * below >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as they lie in a file, below a vocabulary's size.
    fn ids(element: Element, count: u32, vocabulary: u32) -> Vec<u8> {
        let id = |at: u32| at.wrapping_mul(2_654_435_761) % vocabulary;
        (0..count).flat_map(|at| id(at).to_le_bytes()[..element.bytes()].to_vec()).collect()
    }

    fn with_header(magic: u32, version: u32, count: u32, ids: &[u8]) -> Vec<u8> {
        let mut file: Vec<u8> =
            [magic, version, count].into_iter().flat_map(u32::to_le_bytes).collect();
        file.resize(HEADER, 0);
        [&file, ids].concat()
    }

    #[test]
    fn the_headers_of_llm_c_say_what_follows() {
        for (magic, version, element) in KNOWN {
            let file = with_header(magic, version, 500, &ids(element, 500, 50_000));
            for token_type in [None, Some(TokenType::Uint16), Some(TokenType::Uint32)] {
                let expected = Stream { element, offset: HEADER, count: 500, doubtful: false };
                assert_eq!(found(&file, token_type), Ok(expected));
            }
            for length in (4..HEADER).step_by(51) {
                let error = found(&file[..length], None).unwrap_err();
                assert!(error.ends_with("ends within its header"), "{length}: {error}");
            }
            for length in HEADER..file.len() {
                let error = found(&file[..length], None).unwrap_err();
                assert!(error.contains("says 500 ids, and ") && error.ends_with("not whole"));
            }
            let other = with_header(magic, 99, 500, &ids(element, 500, 50_000));
            assert!(found(&other, None).unwrap_err().contains("in version 99"));
        }
        let questions = with_header(QUESTIONS, 1, 5, &[0; 100]);
        assert!(found(&questions, None).unwrap_err().contains("multiple-choice"));
    }

    /// Whatever the vocabulary, each width is told from the other.
    #[test]
    fn ids_of_another_width_are_noticed() {
        for vocabulary in [20, 80, 256, 50_257, 65_536] {
            let narrow = ids(Element::U16, 4000, vocabulary);
            let stream = Stream { element: Element::U16, offset: 0, count: 4000, doubtful: false };
            assert_eq!(found(&narrow, None), Ok(stream), "{vocabulary}");
        }
        for vocabulary in [20, 80, 256, 50_257, 65_536, 128_256, 256_000] {
            let wide = ids(Element::U32, 4000, vocabulary);
            let error = found(&wide, None).unwrap_err();
            assert!(error.contains("set token_type to \"uint32\""), "{vocabulary}: {error}");
            let stream = Stream { element: Element::U32, offset: 0, count: 4000, doubtful: false };
            assert_eq!(found(&wide, Some(TokenType::Uint32)), Ok(stream));
            let asked = found(&wide, Some(TokenType::Uint16)).unwrap();
            let expected = Stream { element: Element::U16, offset: 0, count: 8000, doubtful: true };
            assert_eq!(asked, expected, "who insists is heard");
            let numbers = Element::U32.integers(&wide).flat_map(i64::to_le_bytes);
            let widest: Vec<u8> = numbers.collect();
            for token_type in [None, Some(TokenType::Uint32)] {
                let error = found(&widest, token_type).unwrap_err();
                assert!(error.starts_with("looks like ids of 64 bits"), "{vocabulary}: {error}");
            }
        }
        let narrow = ids(Element::U16, 4000, 50_257);
        let error = found(&narrow, Some(TokenType::Uint32)).unwrap_err();
        assert!(error.ends_with("is token_type \"uint16\"?"), "{error}");
    }

    #[test]
    fn text_is_no_stream_of_ids() {
        let error = found("1 2 3 4 5\n".repeat(100).as_bytes(), None).unwrap_err();
        assert!(error.starts_with("is text, "), "{error}");
        assert!(found(&[b'a'; 8], None).is_ok(), "too short to tell");
        assert!(found(&[0; 5], None).unwrap_err().ends_with("no multiple of 2"));
        assert_eq!(found(&[], None).unwrap().count, 0);
    }
}
