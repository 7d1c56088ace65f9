//! The insides of lists, maps and enums: each element and entry is a node of its own, with its place.

use super::error::{Error, Fault};
use super::{Node, Null, Place, Step, identity};
use crate::config::value::{Key, Value};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// The entries of a map that are not passed over.
pub(super) struct Entries<'a, 'v> {
    node: Node<'a, 'v>,
    rest: std::slice::Iter<'v, (Key, Value)>,
    current: Option<&'v (Key, Value)>,
    null: Null,
}

impl<'a, 'v> Entries<'a, 'v> {
    /// `null` says what it means as a value here.
    pub(super) fn new(node: Node<'a, 'v>, entries: &'v [(Key, Value)], null: Null) -> Self {
        Self { node, rest: entries.iter(), current: None, null }
    }
}

impl<'v> MapAccess<'v> for Entries<'_, 'v> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let skipped = self.node.skipped;
        self.current = self.rest.find(|(_, value)| !skipped.contains(&identity(value)));
        let Some((key, value)) = self.current else { return Ok(None) };
        seed.deserialize(Name(&key.name)).map(Some).map_err(|error: Error| {
            let place = Place { parent: Some(self.node.place), step: Step::Key(&key.name) };
            error.at_key(value, &key.mark, &place)
        })
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.current else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let place = Place { parent: Some(self.node.place), step: Step::Key(&key.name) };
        let node = Node { value, place: &place, skipped: self.node.skipped, null: self.null };
        seed.deserialize(node).map_err(|error: Error| error.at(&node))
    }
}

/// The elements of a list that are not passed over.
pub(super) struct Items<'a, 'v> {
    node: Node<'a, 'v>,
    rest: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'a, 'v> Items<'a, 'v> {
    pub(super) fn new(node: Node<'a, 'v>, items: &'v [Value]) -> Self {
        Self { node, rest: items.iter().enumerate() }
    }
}

impl<'v> SeqAccess<'v> for Items<'_, 'v> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let skipped = self.node.skipped;
        let Some((index, value)) = self.rest.find(|(_, value)| !skipped.contains(&identity(value))) else {
            return Ok(None);
        };
        let place = Place { parent: Some(self.node.place), step: Step::Index(index) };
        let node = Node { value, place: &place, skipped, null: Null::Empty };
        seed.deserialize(node).map(Some).map_err(|error: Error| error.at(&node))
    }
}

/// A key or the name of an enum's variant.
struct Name<'n>(&'n str);

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An enum written as its name, or as a map of its name to its content.
pub(super) struct Tagged<'a, 'v, 'n> {
    pub(super) node: Node<'a, 'v>,
    pub(super) name: &'n str,
    pub(super) content: Option<&'v Value>,
}

impl<'a, 'v, 'n> EnumAccess<'v> for Tagged<'a, 'v, 'n> {
    type Error = Error;
    type Variant = Content<'a, 'v, 'n>;

    fn variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<(S::Value, Self::Variant), Error> {
        let variant = seed.deserialize(Name(self.name)).map_err(|error: Error| error.at(&self.node))?;
        Ok((variant, Content(self)))
    }
}

/// What stands behind the name of a variant.
pub(super) struct Content<'a, 'v, 'n>(Tagged<'a, 'v, 'n>);

impl<'v> Content<'_, 'v, '_> {
    fn with<T>(self, read: impl FnOnce(Node<'_, 'v>) -> Result<T, Error>) -> Result<T, Error> {
        let Tagged { node, name, content } = self.0;
        let place = Place { parent: Some(node.place), step: Step::Key(name) };
        match content {
            Some(value) => {
                let node = Node { value, place: &place, skipped: node.skipped, null: Null::Empty };
                read(node).map_err(|error: Error| error.at(&node))
            }
            None => {
                Err(Error::new(Fault::Said(format!("{name:?} needs a value: write a map {{{name}: ...}}"))).at(&node))
            }
        }
    }
}

impl<'v> VariantAccess<'v> for Content<'_, 'v, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.0.content {
            None => Ok(()),
            Some(value) if value.is_null() => Ok(()),
            Some(_) => Err(Error::new(Fault::Said(format!("{:?} takes no value", self.0.name))).at(&self.0.node)),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'v>>(self, seed: S) -> Result<S::Value, Error> {
        self.with(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'v>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.with(|node| node.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'v>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.with(|node| node.map(visitor, true))
    }
}
