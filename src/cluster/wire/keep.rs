//! Prunes JSON while it is parsed: what is not asked for is skipped without being held, however
//! deep or large it is.

use std::fmt;

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

/// Which part of a JSON value is kept.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// All of it.
    All,
    /// Of an object these fields, of a list the same of each element, any other value as it is.
    Fields(&'static [(&'static str, Keep)]),
}

impl Keep {
    /// What is kept of a field, if anything.
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Fields(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, keep)| *keep),
        }
    }
}

/// Reads a value and keeps what is asked for.
pub(super) fn prune<'de, D: Deserializer<'de>>(keep: Keep, deserializer: D) -> Result<Value, D::Error> {
    Prune { keep, depth: 0 }.deserialize(deserializer)
}

struct Prune {
    keep: Keep,
    depth: usize,
}

impl Prune {
    fn below(&self, keep: Keep) -> Self {
        Self { keep, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Prune {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth < MAX_DEPTH {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null)
        }
    }
}

impl<'de> Visitor<'de> for Prune {
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
        while list.len() < MAX_ITEMS {
            match seq.next_element_seed(self.below(self.keep))? {
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
    }
}
