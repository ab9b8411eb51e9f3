use super::*;

/// A reader that limits the number of bytes per read to its second field.
struct Slow<'a>(&'a [u8], usize);

impl std::io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (piece, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.0 = rest;
        Ok(count)
    }
}

/// Asserts that parsing and writing a text gives the same result as `serde_json`.
fn assert_same_as_serde_json(text: &[u8]) {
    let expected = serde_json::from_slice::<Value>(text);
    let shown = String::from_utf8_lossy(text);
    match (parse(text), &expected) {
        (Ok(found), Ok(expected)) => {
            assert_eq!(&found, expected, "{shown}");
            assert_eq!(super::text(&found), expected.to_string(), "{shown}");
        }
        (Err(_), Err(_)) => {}
        (found, expected) => panic!("{shown:?}: {found:?}, but serde_json: {expected:?}"),
    }
    let slow = read(&mut Slow(text, 3), &[]);
    assert_eq!(slow.ok(), expected.ok(), "{shown}");
}

#[test]
fn parser_agrees_with_serde_json_on_valid_and_invalid_texts() {
    for text in [
        "",
        " ",
        "null",
        "nul",
        "nulll",
        "true",
        "false",
        "falsy",
        "[]",
        "[1,]",
        "[,]",
        "[1 2]",
        "{}",
        "{,}",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{a:1}"#,
        r#"{"a":}"#,
        " [ 1 , 2 ] ",
        "[1]x",
        "]",
        "{]",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "-01",
        "1.",
        ".1",
        "1.e1",
        "1e",
        "1e+",
        "1e5",
        "1E-5",
        "+1",
        "0.1e1",
        "0e1",
        "-0.0",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1e308",
        "1e309",
        "-1e309",
        "1e-400",
        "7777778.77777E77",
        "0.1",
        "123456789012345678901234567890",
        "2.2250738585072011e-308",
        "9007199254740993",
        "9007199254740993.0",
        "1e999999999999",
        r#""""#,
        r#"""#,
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\x""#,
        r#""\u00e4""#,
        r#""\u00E4\u0000""#,
        r#""\u12""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\ud83d""#,
        r#""\ude00""#,
        "\"a\nb\"",
        "\"\u{7f}\u{1}\"",
        "\"ü😀\"",
        "\u{feff}1",
        "\u{a0}1",
        "1\u{0}",
    ] {
        assert_same_as_serde_json(text.as_bytes());
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc3\"", b"\xff", b"\"\xed\xa0\x80\""] {
        assert_same_as_serde_json(bytes);
    }
    for depth in [126, 127, 128, 100_000] {
        assert_same_as_serde_json(["[".repeat(depth), "]".repeat(depth)].concat().as_bytes());
        assert_same_as_serde_json(
            [r#"{"a":"#.repeat(depth), "1".to_owned(), "}".repeat(depth)].concat().as_bytes(),
        );
    }
}

#[test]
fn parser_agrees_with_serde_json_on_randomly_damaged_documents() {
    let whole = r#"{"a": [1, -2.5e3, true, null, "x\u00e4\n\ud83d\ude00"], "b": {"c": [[], {}], "d": 0.1}, "e": "ü"}"#;
    let signs = b"\"\\{}[],:0123456789eE+-.utrfalsn \n\x00\xff";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..5_000 {
        let mut bytes = whole.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = signs[random(signs.len())],
                1 => bytes.insert(at, signs[random(signs.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        assert_same_as_serde_json(&bytes);
    }
}

#[test]
fn floats_round_trip_exactly() {
    let mut state = 1_u64;
    for _ in 0..5_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = f64::from_bits(state);
        if number.is_finite() {
            let text = serde_json::to_string(&number).unwrap();
            assert_eq!(parse(text.as_bytes()).unwrap().as_f64(), Some(number), "{text}");
            assert_same_as_serde_json(text.as_bytes());
        }
    }
}

#[test]
fn skipped_fields_are_dropped_at_every_depth_and_must_be_valid_json() {
    let text = br#"[{"a": 1, "big": [{"a": 2}]}, {"b": {"big": "x", "c": 3}}]"#;
    let found = read(&mut &text[..], &["big", "other"]).unwrap();
    assert_eq!(super::text(&found), r#"[{"a":1},{"b":{"c":3}}]"#);
    assert!(matches!(read(&mut &br#"{"big": nope}"#[..], &["big"]), Err(Failure::Malformed(_))));
}

#[test]
fn syntax_errors_name_line_and_column() {
    let malformed = parse(b"{\"a\": 1,\n  b: 2}").unwrap_err();
    assert_eq!(malformed.to_string(), "expected a name in quotes at line 2 column 2");
}

#[test]
fn errors_name_the_field_with_the_wrong_type() {
    let value = parse(br#"{"n": -1, "s": "x", "m": {"a": "b", "c": 3}, "o": null, "f": 1.5}"#).unwrap();
    let fields = Fields::from_value(&value).unwrap();
    assert_eq!(fields.string("s").unwrap().as_deref(), Some("x"));
    assert_eq!((fields.string("o").unwrap(), fields.string("missing").unwrap()), (None, None));
    assert_eq!(fields.integer::<i32>("n").unwrap(), Some(-1));
    assert_eq!(fields.integer::<u64>("n").unwrap_err(), "`n` is a number, not a whole number");
    assert_eq!(fields.integer::<u64>("f").unwrap_err(), "`f` is a number, not a whole number");
    assert_eq!(fields.string("n").unwrap_err(), "`n` is a number, not a string");
    assert_eq!(fields.string_map("m").unwrap_err(), "`m.c` is a number, not a string");
    assert_eq!(Fields::from_value(&Value::Null).unwrap_err(), "it is null, not an object");
}

#[test]
fn a_list_is_read_element_by_element() {
    let elements = |text: &str| {
        let mut found = Vec::new();
        read_elements(&mut Slow(text.as_bytes(), 2), &["b"], &mut |element| found.push(super::text(&element)))
            .map(|()| found)
            .map_err(|failure| format!("{failure:?}"))
    };
    assert_eq!(elements(r#" [{"a": [1], "b": 2}, 3] "#), Ok(vec![r#"{"a":[1]}"#.to_owned(), "3".to_owned()]));
    assert_eq!(elements("[]"), Ok(Vec::new()));
    for wrong in ["{}", "", "[1", "[1,]", "[1] 2", "[1 2]"] {
        assert!(elements(wrong).is_err(), "{wrong}");
    }
}
