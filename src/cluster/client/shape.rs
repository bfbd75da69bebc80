//! What an answer must be so that nothing after it fails on it. kube logs an answer that it cannot
//! decode, whole, so it gets none of those; and what it would hold many times over is refused.

use std::fmt;

use kube::api::ListMeta;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Most objects of one answer. Pages of a few hundred are asked for; a proxy that does not know
/// pages answers with all there are. Each object takes about a kilobyte while it is read, however
/// short it is in the answer.
const MAX_OBJECTS: usize = 20_000;
/// Longest resourceVersion or token for the next page, which go into URLs; Kubernetes' have some
/// hundred characters.
const MAX_TOKEN: usize = 16 << 10;
/// How deep JSON is looked into; readers skip what lies deeper unseen.
const MAX_DEPTH: usize = 16;

/// Whether an answer is a list as Kubernetes writes them: with `items`, and with no fields but the
/// four that each list has. Others would be held whole.
///
/// # Errors
/// Says where it is not.
pub(super) fn check_list(answer: &str) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(answer);
    json.deserialize_map(List)?;
    json.end()
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Vec::new();
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "apiVersion" | "kind" => map.next_value::<Option<String>>().map(drop)?,
                "metadata" => {
                    let ListMeta { resource_version, continue_, .. } = map.next_value()?;
                    if [resource_version, continue_].iter().flatten().any(|text| text.len() > MAX_TOKEN) {
                        return Err(A::Error::custom("a token that is too long"));
                    }
                }
                "items" => map.next_value::<Option<Items>>().map(drop)?,
                _ => return Err(A::Error::custom("a field that lists do not have")),
            }
            if seen.contains(&field) {
                return Err(A::Error::custom("a field twice"));
            }
            seen.push(field);
        }
        match seen.iter().any(|field| field == "items") {
            true => Ok(()),
            false => Err(A::Error::custom("no items")),
        }
    }
}

struct Items;

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        let mut objects = 0;
        while seq.next_element_seed(Sound { depth: 0 })?.is_some() {
            objects += 1;
            if objects > MAX_OBJECTS {
                return Err(A::Error::custom("too many objects"));
            }
        }
        Ok(self)
    }
}

/// Any JSON whose texts and numbers can be held, down to [`MAX_DEPTH`]; holds nothing.
struct Sound {
    depth: usize,
}

impl Sound {
    fn below(&self) -> Self {
        Self { depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth < MAX_DEPTH {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_ignored_any(IgnoredAny).map(drop)
        }
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.below())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(self.below())?.is_some() {
            map.next_value_seed(self.below())?;
        }
        Ok(())
    }
}
