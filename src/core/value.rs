//! What models are made of: texts, lists and maps that are held once for all that are equal, so that a
//! copy costs nothing. They cannot be changed in place: a changed one is another one.

mod list;
mod map;
mod text;

pub use self::{
    list::{List, Pooled},
    map::Map,
    text::Text,
};
