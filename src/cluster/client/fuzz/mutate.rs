//! Inputs from a corpus: a seed, of which values of its JSON are replaced and bytes are changed.
//! proptest chooses and shrinks; it keeps no files.

use std::{fmt, fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

/// An input, printed so that a failure can be made a test of its own.
#[derive(Clone)]
pub(super) struct Input(pub(super) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// The seeds of a folder of the corpus, in order of their names.
pub(super) fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Changed inputs from a folder of the corpus.
pub(super) fn inputs(folder: &str) -> impl Strategy<Value = Input> + use<> {
    let seeds: Vec<Vec<u8>> = seeds(folder).into_iter().map(|(_, seed)| seed).collect();
    let others = seeds.clone();
    let values = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4);
    let bytes = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(byte_change(), 1..6)];
    (prop::sample::select(seeds), values, bytes).prop_map(move |(seed, values, bytes)| {
        let mut input = replace_values(seed, &values);
        for change in bytes {
            change.apply(&mut input, &others);
        }
        Input(input)
    })
}

/// Values that somebody once forgot to think of. Texts that JSON allows and Rust cannot hold stand
/// in as words, and are put in when the document is text again.
fn odd_values() -> Vec<Value> {
    let long: String = "x".repeat(5000);
    let many: Vec<Value> =
        (0..1100).map(|n| json!({"name": format!("p{n}"), "port": n, "addresses": ["10.0.0.1"]})).collect();
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(65535),
        json!(65536),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!(" "),
        json!("a"),
        json!("None"),
        json!("A_b"),
        json!("../x"),
        json!("\u{1b}[2J\u{202e}\n"),
        json!("10.0.0.1\n"),
        json!("::ffff:127.0.0.1"),
        json!("127.0.0.1"),
        json!("https://127.0.0.1"),
        json!("\u{0}"),
        json!("gateway.heliostat.dev"),
        json!("FQDN"),
        json!("v2"),
        json!(","),
        json!(",,a,\u{7},"),
        json!(long),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null, 7, "x", {}]),
        json!({"name": "a"}),
        json!({"": ""}),
        json!({"kubernetes.io/service-name": "books"}),
        json!(many),
        json!("SURROGATE"),
        json!("HUGE"),
        json!("DEEP"),
        json!("canary-4f7a-of-the-corpus"),
        json!("9999-99-99T99:99:99Z"),
    ]
}

/// Replaces values of each line that is JSON, or of the whole.
fn replace_values(seed: Vec<u8>, changes: &[(prop::sample::Index, prop::sample::Index)]) -> Vec<u8> {
    if changes.is_empty() {
        return seed;
    }
    let text = String::from_utf8_lossy(&seed).into_owned();
    let whole = serde_json::from_str::<Value>(&text).is_ok();
    let parts: Vec<String> = if whole { vec![text] } else { text.split_inclusive('\n').map(str::to_owned).collect() };
    let parts: Vec<String> = parts.into_iter().map(|part| replace_in(part, changes)).collect();
    parts.concat().into_bytes()
}

fn replace_in(part: String, changes: &[(prop::sample::Index, prop::sample::Index)]) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(&part) else { return part };
    let odd = odd_values();
    for (at, with) in changes {
        let mut left = at.index(count(&value));
        replace(&mut value, &mut left, with.get(&odd));
    }
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let end = if part.ends_with('\n') { "\n" } else { "" };
    let text = value.to_string().replace("\"SURROGATE\"", "\"\\ud800\"");
    text.replace("\"HUGE\"", "1e999").replace("\"DEEP\"", &deep) + end
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Replaces the value that is `left` steps away.
fn replace(value: &mut Value, left: &mut usize, with: &Value) -> bool {
    if *left == 0 {
        *value = with.clone();
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|value| replace(value, left, with)),
        Value::Object(fields) => fields.values_mut().any(|value| replace(value, left, with)),
        _ => false,
    }
}

/// A change of bytes, at a part of the way through.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static [u8]),
    Remove(prop::sample::Index, prop::sample::Index),
    Twice(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index),
    Join(prop::sample::Index),
}

const WORDS: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\"",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"null",
    b"1e999",
    b"-0",
    b"&a ",
    b"*a ",
    b"<<: ",
    b"!!binary ",
    b"--- ",
    b"\t",
    b"exec: ",
    b"\"items\":[],",
    b"\"type\":\"ERROR\",",
    b"\xef\xbb\xbf",
    b"#",
    b"? ",
    b"| ",
];

fn byte_change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), prop::sample::select(WORDS)).prop_map(|(at, word)| Change::Insert(at, word)),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Change::Twice(from, to)),
        at().prop_map(Change::Cut),
        at().prop_map(Change::Join),
    ]
}

impl Change {
    fn apply(self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let size = input.len();
        let range = |from: prop::sample::Index, to: prop::sample::Index| {
            let (from, to) = (from.index(size + 1), to.index(size + 1));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Set(at, byte) if size > 0 => input[at.index(size)] = byte,
            Self::Set(..) => {}
            Self::Insert(at, word) => drop(input.splice(at.index(size + 1)..at.index(size + 1), word.iter().copied())),
            Self::Remove(from, to) => drop(input.drain(range(from, to))),
            Self::Twice(from, to) => {
                let range = range(from, to);
                let again = input[range.clone()].to_vec();
                input.splice(range.end..range.end, again);
            }
            Self::Cut(at) => input.truncate(at.index(size + 1)),
            Self::Join(seed) => input.extend(seed.get(seeds)),
        }
    }
}
