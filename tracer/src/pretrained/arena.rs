//! Values of a pickle. They lie in one arena and refer to each other by index, so that neither loops nor deep nesting
//! in a damaged file can exhaust the stack.

use super::storage::{Storage, Strided};
use std::rc::Rc;

/// A value; containers and what is called lie in the [`Arena`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Int(i64),
    Text(Rc<str>),
    Object(usize),
    /// What no reader of weights asks for: floats, bytes, large integers.
    Other,
}

/// What a [`Value::Object`] refers to.
#[derive(Debug)]
pub(super) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A class or function, by its full name.
    Global(String),
    /// What a call of an unknown class or function gave.
    Instance(String),
    Storage(Storage),
    Tensor(Strided),
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Arena(Vec<Object>);

impl Arena {
    /// What a value refers to, if it refers to anything.
    pub(super) fn get(&self, value: &Value) -> Option<&Object> {
        match value {
            Value::Object(index) => Some(&self.0[*index]),
            _ => None,
        }
    }

    /// Adds an object; gives the value that refers to it.
    pub(super) fn add(&mut self, object: Object) -> Value {
        self.0.push(object);
        Value::Object(self.0.len() - 1)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, value: &Value) -> Option<&mut Object> {
        match value {
            Value::Object(index) => Some(&mut self.0[*index]),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(super) fn elements(&self, value: &Value) -> Option<&[Value]> {
        match self.get(value) {
            Some(Object::Tuple(elements) | Object::List(elements)) => Some(elements),
            _ => None,
        }
    }

    /// All storages that the pickle names.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.0.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The name of a class or function.
    pub(super) fn global(&self, value: &Value) -> Option<&str> {
        match self.get(value) {
            Some(Object::Global(name)) => Some(name),
            _ => None,
        }
    }
}
