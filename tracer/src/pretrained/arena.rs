//! Values of a pickle.
//!
//! They are stored in one arena and refer to each other by index, so that neither loops nor deep
//! nesting in a damaged file can exhaust the stack.

use super::storage::{Storage, StridedTensor};
use std::rc::Rc;

/// A value; containers, classes and functions are stored in the [`Arena`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PickleValue {
    None,
    Int(i64),
    Text(Rc<str>),
    Object(usize),
    /// A value that weights do not need: floats, bytes, large integers.
    Other,
}

/// An object that a [`PickleValue::Object`] refers to.
#[derive(Debug)]
pub(super) enum PickleObject {
    Tuple(Vec<PickleValue>),
    List(Vec<PickleValue>),
    Dict(Vec<(PickleValue, PickleValue)>),
    /// A class or function, by its full name.
    Global(String),
    /// The result of calling an unknown class or function.
    Instance(String),
    Storage(Storage),
    Tensor(StridedTensor),
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Arena(Vec<PickleObject>);

impl Arena {
    /// Returns the object that a value refers to, if any.
    pub(super) fn get(&self, value: &PickleValue) -> Option<&PickleObject> {
        match value {
            PickleValue::Object(index) => Some(&self.0[*index]),
            _ => None,
        }
    }

    /// Adds an object; returns the value that refers to it.
    pub(super) fn add(&mut self, object: PickleObject) -> PickleValue {
        self.0.push(object);
        PickleValue::Object(self.0.len() - 1)
    }

    /// Returns the object that a value refers to, for changes.
    pub(super) fn get_mut(&mut self, value: &PickleValue) -> Option<&mut PickleObject> {
        match value {
            PickleValue::Object(index) => Some(&mut self.0[*index]),
            _ => None,
        }
    }

    /// Returns the elements of a tuple or list.
    pub(super) fn elements(&self, value: &PickleValue) -> Option<&[PickleValue]> {
        match self.get(value) {
            Some(PickleObject::Tuple(elements) | PickleObject::List(elements)) => Some(elements),
            _ => None,
        }
    }

    /// Iterates over all storages that the pickle names.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.0.iter().filter_map(|object| match object {
            PickleObject::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// Returns the name of a class or function.
    pub(super) fn global(&self, value: &PickleValue) -> Option<&str> {
        match self.get(value) {
            Some(PickleObject::Global(name)) => Some(name),
            _ => None,
        }
    }
}
