//! The checkers alone, on values that nothing else reads.
use super::{code, pickle};

/// What pickles a text.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// What pickles a number.
fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

/// What pickles a tuple of what these pickle.
fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

/// What pickles a class or function.
fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// What pickles an object of a class of the script, with what pickles its attributes.
fn object(class: &str, attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let items = attributes.iter().map(|(name, value)| [&text(name), *value].concat());
    let items = items.collect::<Vec<_>>().concat();
    [&global("__torch__", class)[..], b")\x81}(", &items, b"ub"].concat()
}

/// What pickles a tensor in float32 that lies in `record`, which is said to have `count` elements.
fn tensor(record: &str, count: i64, offset: i64, sizes: &[i64], strides: &[i64]) -> Vec<u8> {
    let ints = |numbers: &[i64]| tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>());
    let kind = global("torch", "FloatStorage");
    let storage = tuple(&[text("storage"), kind, text(record), text("cpu"), int(count)]);
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let storage = [storage, b"Q".to_vec()].concat();
    let parts = [storage, int(offset), ints(sizes), ints(strides), b"\x88".to_vec(), hooks];
    [global("torch._utils", "_rebuild_tensor_v2"), tuple(&parts), b"R".to_vec()].concat()
}

/// What the checker says of a module whose attribute `weight` is what `value` pickles. There is one record of
/// 16 bytes, called 0.
fn said(value: &[u8]) -> String {
    let module = object("M", &[("weight", value), ("training", b"\x88")]);
    let pickle = [b"\x80\x02", &module[..], b"."].concat();
    let size_of = |record: &str| (record == "0").then_some(16);
    pickle::check(&pickle, &size_of).map_or_else(|error| error, |()| "fine".to_owned())
}

#[test]
fn tensors_within_their_storage() {
    for (sizes, strides) in [
        (&[2, 2][..], &[2, 1][..]),
        (&[2, 2], &[1, 2]),
        (&[4], &[1]),
        // As `expand` makes them, empty, and of no dimensions.
        (&[3, 4], &[0, 1]),
        (&[0, 5], &[1, 1]),
        (&[], &[]),
    ] {
        assert_eq!(said(&tensor("0", 4, 0, sizes, strides)), "fine", "{sizes:?}");
    }
}

#[test]
fn tensors_beyond_their_storage() {
    for (offset, sizes, strides) in [
        (0, &[5][..], &[1][..]),
        (1, &[2, 2], &[2, 1]),
        (4, &[1], &[1]),
        (-1, &[1], &[1]),
        (0, &[2], &[-1]),
        (0, &[-1], &[1]),
        (0, &[2, 2], &[2]),
        (0, &[2, 2], &[i64::MAX, i64::MAX]),
        (i64::MAX, &[2], &[i64::MAX]),
        (0, &[1 << 62, 1 << 62], &[0, 0]),
        (0, &[0, 1 << 62, 1 << 62], &[0, 0, 0]),
        (5, &[0], &[1]),
    ] {
        let error = said(&tensor("0", 4, offset, sizes, strides));
        assert!(
            error.contains("tensor `weight` of sizes")
                && error.contains("beyond its storage of 4 elements"),
            "{sizes:?}: {error}"
        );
    }
}

#[test]
fn storages_beyond_their_record() {
    for (record, count, what) in [
        ("0", 5, "claims 5 elements of 4 bytes, and record \"0\" has 16 bytes"),
        ("0", i64::MAX, "claims 9223372036854775807 elements"),
        ("0", -1, "has -1 elements"),
        ("7", 4, "record \"7\", which is not there"),
    ] {
        let error = said(&tensor(record, count, 0, &[1], &[1]));
        assert!(error.contains(what) && error.contains("tensor `weight`"), "{error}");
    }
}

/// `depth` tuples within one another.
fn nested(depth: usize) -> Vec<u8> {
    [b"(".repeat(depth), b"t".repeat(depth)].concat()
}

#[test]
fn pickles_that_torch_does_not_write() {
    let call = |module: &str, name: &str| [global(module, name), b")R".to_vec()].concat();
    let weight = tensor("0", 4, 0, &[4], &[1]);
    for (value, what) in [
        (call("math", "floor"), "Python's math.floor"),
        (call("__builtin__", "abs"), "Python's __builtin__.abs"),
        (
            call("__torch__.torch.classes.quantized", "LinearPackedParamsBase"),
            "reach out of the model",
        ),
        (call("torch", "zeros"), "of type torch.zeros"),
        (call("torch._utils", "_rebuild_sparse_tensor"), "quantized or sparse"),
        ([b"K\x05", &weight[..], b"R"].concat(), "stands where"),
        (b"}(K\x01u".to_vec(), "stands where"),
        (b"(K\x01d".to_vec(), "0x64, which torch.jit.save does not write"),
        (b"]q\x00(h\x00e".to_vec(), "stands where"),
        (b"t".to_vec(), "stands where"),
        (b"e".to_vec(), "stands where"),
        (b"Nr\xff\xff\xff\xff".to_vec(), "out of order"),
        (b"h\x05".to_vec(), "recalls value 5"),
        (b"X\xff\xff\xff\xff".to_vec(), "cut off"),
        (nested(1001), "deep within each other"),
    ] {
        let error = said(&value);
        assert!(error.contains(what), "{what}: {error}");
    }
}

/// Lists that each have the one before in them, which was remembered while it was empty.
#[test]
fn depth_counts_what_is_recalled() {
    let lists = |count: u32| {
        let list = |number: u32| {
            let inner = match number {
                0 => b"N".to_vec(),
                _ => [b"j", &(number - 1).to_le_bytes()[..]].concat(),
            };
            [b"]r", &number.to_le_bytes()[..], b"(", &inner, b"e"].concat()
        };
        (0..count).flat_map(list).collect::<Vec<u8>>()
    };
    assert!(said(&lists(1001)).contains("deep within each other"));
}

/// Whatever is changed in a pickle, the checker ends in a verdict.
#[test]
fn changed_pickles() {
    let weight = tensor("0", 4, 0, &[2, 2], &[2, 1]);
    let (mut fine, mut refused) = (0, 0);
    for at in 0..weight.len() {
        for change in [0x01, 0x02, 0x40, 0xff] {
            let mut changed = weight.clone();
            changed[at] ^= change;
            match said(&changed).as_str() {
                "fine" => fine += 1,
                _ => refused += 1,
            }
        }
    }
    assert!(fine > 10 && refused > 500, "{fine} fine, {refused} refused");
}

const CODE: &str = r#"class M(Module):
  __parameters__ = ["weight", ]
  weight : Tensor
  def forward(self: __torch__.M,
    x: Tensor) -> Tensor:
    weight = self.weight
    return torch.mul(x, weight)
"#;

fn with_line(line: &str) -> String {
    CODE.replace("    weight = self.weight\n", &format!("    weight = self.weight\n    {line}\n"))
}

fn with_default(default: &str) -> String {
    CODE.replace("x: Tensor)", &format!("x: Tensor, y: Tensor={default})"))
}

#[test]
fn code_that_computes() {
    for code in [
        CODE.to_owned(),
        // The words that are looked for, where they stand for nothing.
        with_line("s = \"ops, torch . from_file(\\\"\"  # ops"),
        CODE.replace("  weight : Tensor\n", "  weight : Tensor\n  ops : int\n  torch : int\n"),
        with_line(&format!("y = {}x", "x + ".repeat(290))),
        with_line(&format!("y = {}x{}", "(".repeat(290), ")".repeat(290))),
    ] {
        assert_eq!(code::check(&code), Ok(()), "{code}");
    }
}

#[test]
fn code_that_reaches_out_of_the_model() {
    for (code, what) in [
        (with_default("torch.from_file()"), "`from_file` opens files"),
        (with_default("ops.aten.from_file()"), "`from_file` opens files"),
        (with_default("getattr(torch, \"zeros\")(1)"), "`torch` stands alone"),
        (with_default("getattr(torch.x, \"ze\" \"ros\")(1)"), "`getattr` asks"),
        (with_line("torch.save()"), "`save` writes files"),
        (with_line("(x). save ()"), "`save` writes files"),
        (with_line("y = ops.inductor.nothing(x)"), "`ops.inductor` has"),
        (with_line("o = ops"), "`ops` stands alone"),
        (with_line("t = torch"), "`torch` stands alone"),
        (with_line("t = __torch__.torch"), "`__torch__.torch` stands alone"),
        (with_line("c = __torch__.torch.classes.nothing.Nothing()"), "libtorch's own"),
        (CODE.replace("def forward", "def __setstate__"), "`__setstate__` would run"),
    ] {
        let error = code::check(&code).expect_err(what);
        assert!(error.contains(what) && error.starts_with("line "), "{what}: {error}");
    }
}

/// A little more than libtorch is let have.
#[test]
fn code_that_is_nested_too_deep() {
    for line in [
        format!("y = {}x{}", "(".repeat(301), ")".repeat(301)),
        format!("y = {}x", "x + ".repeat(301)),
        format!("y = {}x", "not ".repeat(301)),
        format!("if True:\n      pass\n{}", "    elif False:\n      pass\n".repeat(301)),
        (1..302).map(|level| format!("{}if True:\n", " ".repeat(3 + level))).collect(),
    ] {
        let error = code::check(&with_line(&line)).expect_err("it is nested too deep");
        let what = "more than 300 expressions and blocks lie in one another";
        assert!(error.contains(what), "{error}");
    }
}
