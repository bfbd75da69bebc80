//! Prunes JSON while it is parsed: what is not asked for is skipped without being held, however
//! deep or large it is.

use std::{cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Deepest nesting that is kept; what lies deeper becomes null. Objects of Kubernetes that are
/// read here need 6.
const MAX_DEPTH: usize = 16;

/// Most elements kept of one list or map, one more than any limit that is checked later
/// (1,000 endpoints of a slice are the most that Kubernetes allows).
const MAX_ITEMS: usize = 1001;

/// Most values kept of one field of the object, each of which takes some 40 bytes beside its text;
/// what comes after them becomes null. A slice of 1,000 endpoints has 13,000. No field takes from
/// another, so that an object keeps its name however large the rest is.
const MAX_VALUES: usize = 50_000;

/// Which part of a JSON value is kept.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// All of it.
    All,
    /// Of an object these fields, of a list the same of each element, any other value as it is.
    Fields(&'static [(&'static str, Keep)]),
    /// Of a list so many elements, any other value as it is.
    First(usize),
}

impl Keep {
    /// What is kept of a field, if anything.
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::All | Self::First(_) => Some(Self::All),
            Self::Fields(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, keep)| *keep),
        }
    }

    /// How many elements of a list are kept, and what of each.
    fn elements(self) -> (usize, Self) {
        match self {
            Self::First(most) => (most, Self::All),
            other => (MAX_ITEMS, other),
        }
    }
}

/// Reads a value and keeps what is asked for.
pub(super) fn prune<'de, D: Deserializer<'de>>(keep: Keep, deserializer: D) -> Result<Value, D::Error> {
    Prune { keep, depth: 0, left: &Cell::new(MAX_VALUES) }.deserialize(deserializer)
}

struct Prune<'a> {
    keep: Keep,
    depth: usize,
    /// How many more values may be kept of the object.
    left: &'a Cell<usize>,
}

impl Prune<'_> {
    fn below(&self, keep: Keep) -> Self {
        Self { keep, depth: self.depth + 1, left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Prune<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth < MAX_DEPTH && self.left.get() > 0 {
            self.left.set(self.left.get() - 1);
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null)
        }
    }
}

impl<'de> Visitor<'de> for Prune<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let (most, keep) = self.keep.elements();
        while list.len() < most {
            match seq.next_element_seed(self.below(keep))? {
                Some(value) => list.push(value),
                None => return Ok(list.into()),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.depth == 0 {
                self.left.set(MAX_VALUES);
            }
            match self.keep.field(&name) {
                Some(keep) if object.len() < MAX_ITEMS => {
                    object.insert(name, map.next_value_seed(self.below(keep))?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEEP: Keep = Keep::Fields(&[("a", Keep::All), ("list", Keep::Fields(&[("x", Keep::All)]))]);

    fn pruned(text: &str) -> Value {
        prune(KEEP, &mut serde_json::Deserializer::from_str(text)).unwrap()
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let text =
            r#"{"a": {"b": [1, -2, 0.5, "s", true, null]}, "managedFields": {"a": 1}, "list": [{"x": 1, "y": 2}, 7]}"#;
        assert_eq!(pruned(text), json!({"a": {"b": [1, -2, 0.5, "s", true, null]}, "list": [{"x": 1}, 7]}));
    }

    #[test]
    fn a12_any_json_is_read_and_the_last_of_equal_keys_counts() {
        for text in ["null", "7", "\"x\"", "[]", "true", "-1.5e3"] {
            pruned(text);
        }
        assert_eq!(pruned(r#"{"a": 1, "a": 2}"#), json!({"a": 2}));
    }

    #[test]
    fn a04_what_is_deep_or_long_is_dropped_and_not_held() {
        let deep = |name: &str| format!("{{\"{name}\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(pruned(&deep("ignored")), json!({}));
        let mut kept = &pruned(&deep("a"))["a"];
        let mut depth = 1;
        while let Some(inner) = kept.get(0) {
            (kept, depth) = (inner, depth + 1);
        }
        assert_eq!((depth, kept), (MAX_DEPTH, &Value::Null));

        let long = format!("{{\"a\": [{}0]}}", "0,".repeat(50_000));
        assert_eq!(pruned(&long)["a"].as_array().unwrap().len(), MAX_ITEMS);

        let row = format!("[{}0]", "0,".repeat(1000));
        let wide = format!("{{\"a\": [{}{row}]}}", format!("{row},").repeat(999));
        let kept = pruned(&wide);
        let values: usize = kept["a"].as_array().unwrap().iter().map(|row| row.as_array().map_or(1, Vec::len)).sum();
        assert!(values <= MAX_VALUES + MAX_ITEMS, "{values}");
        let both = format!("{{\"a\": [{}{row}], \"list\": [{{\"x\": 1}}]}}", format!("{row},").repeat(999));
        assert_eq!(pruned(&both)["list"], json!([{"x": 1}]));
    }
}
