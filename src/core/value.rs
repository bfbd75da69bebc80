//! What models are made of: texts, lists and maps that are held once for all that are equal, so that a
//! copy costs nothing. They cannot be changed in place: a changed one is another one.

mod address;
mod identity;
mod list;
mod map;
mod seldom;
mod text;

pub use self::{
    address::Address,
    identity::{Uid, Version},
    list::{List, Pooled},
    map::Map,
    seldom::Seldom,
    text::Text,
};
