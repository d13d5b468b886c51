//! Python's pickles as data: a stack machine that builds values and never runs code.
//!
//! Classes and functions are stored by name. Calls that build state dictionaries are evaluated; any
//! other call becomes a [`PickleObject::Instance`].
//!
//! No library suffices: serde-pickle 1.2 lacks persistent ids, which refer to tensors' storages,
//! and the unpickler of libtorch 2.13 reads an `OrderedDict`, as every state dictionary is, as
//! None.

use super::arena::{Arena, PickleObject, PickleValue};
use super::{code, rebuild};
use std::collections::BTreeMap;

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    /// Its value.
    pub(super) root: PickleValue,
    /// The objects to which it refers.
    pub(super) arena: Arena,
    /// Size of the pickle in bytes.
    pub(super) bytes: usize,
}

/// Maximum length of a class' or function's name in bytes. A few bytes of a pickle can repeat a
/// name.
const MAX_NAME_BYTES: usize = 256;

/// The error is the reason why a pickle cannot be read.
type Result<T> = std::result::Result<T, String>;

/// Reads the pickle at the start of these bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = PickleMachine {
        bytes,
        position: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        arena: Arena::default(),
        copied: 0,
    };
    let root = machine.run().map_err(|reason| format!("{reason} (byte {} of the pickle)", machine.position))?;
    Ok(Pickle { root, arena: machine.arena, bytes: machine.position })
}

struct PickleMachine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<PickleValue>,
    /// The positions in the stack at which the open containers start.
    marks: Vec<usize>,
    memo: BTreeMap<u64, PickleValue>,
    arena: Arena,
    /// Number of values that calls have copied from their arguments.
    copied: usize,
}

impl PickleMachine<'_> {
    /// Executes instructions until STOP; returns the top of the stack.
    fn run(&mut self) -> Result<PickleValue> {
        loop {
            let instruction = self.take(1)?[0];
            match instruction {
                code::STOP => return self.pop(),
                code::PROTO => self.check_protocol()?,
                code::FRAME => drop(self.take(8)?),
                code::MARK => self.marks.push(self.stack.len()),
                // The state that BUILD sets is not needed.
                code::POP | code::BUILD => drop(self.pop()?),
                code::POP_MARK => drop(self.pop_to_mark()?),
                code::DUP => self.stack.push(self.top()?.clone()),
                code::BINPUT | code::LONG_BINPUT | code::MEMOIZE => self.put(instruction)?,
                code::BINGET | code::LONG_BINGET => self.fetch(instruction)?,
                code::GLOBAL | code::STACK_GLOBAL => self.name_global(instruction)?,
                code::REDUCE | code::NEWOBJ | code::NEWOBJ_EX => self.call(instruction)?,
                code::BINPERSID => self.load_persistent()?,
                code::APPEND | code::APPENDS | code::ADDITEMS => self.append(instruction)?,
                code::SETITEM | code::SETITEMS => self.set_items(instruction)?,
                _ => {
                    let value = self.read_value(instruction)?;
                    self.stack.push(value);
                }
            }
        }
    }

    fn check_protocol(&mut self) -> Result<()> {
        match self.take(1)?[0] {
            2..=5 => Ok(()),
            other => Err(format!("has the unknown pickle protocol {other}")),
        }
    }

    /// Reads the value of an instruction that only pushes a value.
    fn read_value(&mut self, instruction: u8) -> Result<PickleValue> {
        Ok(match instruction {
            code::NONE => PickleValue::None,
            code::NEWTRUE | code::NEWFALSE => PickleValue::Int(i64::from(instruction == code::NEWTRUE)),
            code::BININT => PickleValue::Int(self.signed(4)?),
            code::BININT1 => PickleValue::Int(self.unsigned(1)? as i64),
            code::BININT2 => PickleValue::Int(self.unsigned(2)? as i64),
            code::LONG1 | code::LONG4 => self.read_long(if instruction == code::LONG1 { 1 } else { 4 })?,
            code::BINFLOAT => {
                self.take(8)?;
                PickleValue::Other
            }
            code::SHORT_BINSTRING | code::SHORT_BINUNICODE => self.text(1)?,
            code::BINSTRING | code::BINUNICODE => self.text(4)?,
            code::BINUNICODE8 => self.text(8)?,
            code::SHORT_BINBYTES => self.skip_bytes(1)?,
            code::BINBYTES => self.skip_bytes(4)?,
            code::BINBYTES8 | code::BYTEARRAY8 => self.skip_bytes(8)?,
            code::EMPTY_TUPLE => self.arena.add(PickleObject::Tuple(Vec::new())),
            code::EMPTY_LIST | code::EMPTY_SET => self.arena.add(PickleObject::List(Vec::new())),
            code::EMPTY_DICT => self.arena.add(PickleObject::Dict(Vec::new())),
            code::TUPLE1 | code::TUPLE2 | code::TUPLE3 => {
                let elements = self.pop_many(usize::from(instruction - code::TUPLE1) + 1)?;
                self.arena.add(PickleObject::Tuple(elements))
            }
            code::TUPLE => {
                let elements = self.pop_to_mark()?;
                self.arena.add(PickleObject::Tuple(elements))
            }
            code::LIST | code::FROZENSET => {
                let elements = self.pop_to_mark()?;
                self.arena.add(PickleObject::List(elements))
            }
            code::DICT => {
                let items = group_pairs(self.pop_to_mark()?)?;
                self.arena.add(PickleObject::Dict(items))
            }
            other => return Err(format!("has the unknown instruction {other:#04x}")),
        })
    }

    fn put(&mut self, instruction: u8) -> Result<()> {
        let index = match instruction {
            code::BINPUT => self.unsigned(1)?,
            code::LONG_BINPUT => self.unsigned(4)?,
            _ => self.memo.len() as u64,
        };
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn fetch(&mut self, instruction: u8) -> Result<()> {
        let index = self.unsigned(if instruction == code::BINGET { 1 } else { 4 })?;
        let value = self.memo.get(&index).ok_or("refers to a value that does not exist")?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn name_global(&mut self, instruction: u8) -> Result<()> {
        let name = if instruction == code::GLOBAL {
            let (module, name) = (self.line()?, self.line()?);
            format!("{module}.{name}")
        } else {
            match self.pop_many(2)?.as_slice() {
                [PickleValue::Text(module), PickleValue::Text(name)] => format!("{module}.{name}"),
                _ => return Err("names a class by a value that is not text".to_owned()),
            }
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(format!("names a class by more than {MAX_NAME_BYTES} bytes"));
        }
        let global = self.arena.add(PickleObject::Global(name));
        self.stack.push(global);
        Ok(())
    }

    /// Replaces a class or function and its arguments by the result of the call.
    fn call(&mut self, instruction: u8) -> Result<()> {
        if instruction == code::NEWOBJ_EX {
            self.pop()?;
        }
        let [callable, arguments] =
            self.pop_many(2)?.try_into().map_err(|_| "calls a function without arguments".to_owned())?;
        let Some(name) = self.arena.global(&callable).map(str::to_owned) else {
            // The callable is the result of another call, which weights do not need.
            let result = self.arena.add(PickleObject::Instance("an unnamed object".to_owned()));
            self.stack.push(result);
            return Ok(());
        };
        let result = self.evaluate_call(&name, &arguments)?;
        self.stack.push(result);
        Ok(())
    }

    fn evaluate_call(&mut self, name: &str, arguments: &PickleValue) -> Result<PickleValue> {
        self.charge_elements(Some(arguments))?;
        let given = self.arena.elements(arguments).unwrap_or_default().to_vec();
        let object = match name {
            "collections.OrderedDict" | "collections.defaultdict" => {
                self.charge_elements(given.first())?;
                PickleObject::Dict(self.collect_items(given.first())?)
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                PickleObject::Tensor(rebuild::build_tensor(&self.arena, &given)?)
            }
            // A tensor with Python attributes. The arguments are a function, a class, the
            // function's arguments and a state.
            "torch._tensor._rebuild_from_type_v2" => {
                let function = given.first().and_then(|function| self.arena.global(function)).map(str::to_owned);
                return match (function, given.get(2)) {
                    (Some(function), Some(arguments)) if function != name => self.evaluate_call(&function, arguments),
                    _ => Err("rebuilds a tensor without a function".to_owned()),
                };
            }
            // A parameter is read as its tensor.
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter"
                if matches!(given.first().and_then(|data| self.arena.get(data)), Some(PickleObject::Tensor(_))) =>
            {
                return Ok(given[0].clone());
            }
            _ => PickleObject::Instance(name.to_owned()),
        };
        Ok(self.arena.add(object))
    }

    /// Counts the elements of a tuple or list before they are copied.
    ///
    /// Each element takes at least one byte of the pickle. More elements than bytes are copies of
    /// copies, which could exhaust memory.
    fn charge_elements(&mut self, container: Option<&PickleValue>) -> Result<()> {
        let count = container.and_then(|container| self.arena.elements(container)).map_or(0, <[PickleValue]>::len);
        self.copied = self.copied.saturating_add(count);
        if self.copied > self.position {
            return Err("its objects hold more values than its bytes can".to_owned());
        }
        Ok(())
    }

    /// Collects the items of a dictionary from a list of pairs, as Python 2 writes it.
    fn collect_items(&self, list: Option<&PickleValue>) -> Result<Vec<(PickleValue, PickleValue)>> {
        let list = list.and_then(|list| self.arena.elements(list)).unwrap_or_default();
        let pair = |element| match self.arena.elements(element) {
            Some([key, value]) => Ok((key.clone(), value.clone())),
            _ => Err("builds a dictionary from a value that is not a pair".to_owned()),
        };
        list.iter().map(pair).collect()
    }

    fn load_persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        if let Some([PickleValue::Text(what), class, ..]) = self.arena.elements(&id)
            && **what == *"module"
        {
            // Old files include the model's class with its source.
            let class = class.clone();
            self.stack.push(class);
            return Ok(());
        }
        let storage = rebuild::build_storage(&self.arena, &id)?;
        let storage = self.arena.add(PickleObject::Storage(storage));
        self.stack.push(storage);
        Ok(())
    }

    fn append(&mut self, instruction: u8) -> Result<()> {
        let more = if instruction == code::APPEND { self.pop_many(1)? } else { self.pop_to_mark()? };
        let container = self.top()?.clone();
        match self.arena.get_mut(&container) {
            Some(PickleObject::List(elements)) => elements.extend(more),
            Some(PickleObject::Instance(_)) => {}
            _ => return Err("appends to a value that is not a list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, instruction: u8) -> Result<()> {
        let more = group_pairs(if instruction == code::SETITEM { self.pop_many(2)? } else { self.pop_to_mark()? })?;
        let container = self.top()?.clone();
        match self.arena.get_mut(&container) {
            Some(PickleObject::Dict(items)) => items.extend(more),
            Some(PickleObject::Instance(_)) => {}
            _ => return Err("sets items of a value that is not a dictionary".to_owned()),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("is truncated")?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// Reads a little-endian unsigned number of up to eight bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Reads a little-endian signed number of up to eight bytes; without bytes, it is 0.
    fn signed(&mut self, bytes: usize) -> Result<i64> {
        let taken = self.take(bytes)?;
        let negative = taken.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes].copy_from_slice(taken);
        Ok(i64::from_le_bytes(wide))
    }

    /// Reads an integer after its length.
    fn read_long(&mut self, length_bytes: usize) -> Result<PickleValue> {
        let length = self.unsigned(length_bytes)? as usize;
        if length <= 8 {
            return Ok(PickleValue::Int(self.signed(length)?));
        }
        self.take(length)?;
        Ok(PickleValue::Other)
    }

    fn text(&mut self, length_bytes: usize) -> Result<PickleValue> {
        let length = self.unsigned(length_bytes)? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        Ok(PickleValue::Text(text.into()))
    }

    fn skip_bytes(&mut self, length_bytes: usize) -> Result<PickleValue> {
        let length = self.unsigned(length_bytes)? as usize;
        self.take(length)?;
        Ok(PickleValue::Other)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("is truncated")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.position += length + 1;
        Ok(line)
    }

    /// The position at which the innermost open container starts.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&PickleValue> {
        self.stack[self.floor()..].last().ok_or_else(|| "takes from an empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<PickleValue> {
        Ok(self.pop_many(1)?.remove(0))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<PickleValue>> {
        let first = self.stack.len().checked_sub(count).filter(|&first| first >= self.floor());
        Ok(self.stack.split_off(first.ok_or("takes from an empty stack")?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<PickleValue>> {
        let mark = self.marks.pop().ok_or("ends a container that was not started")?;
        Ok(self.stack.split_off(mark))
    }
}

/// Groups alternating keys and values as pairs.
fn group_pairs(values: Vec<PickleValue>) -> Result<Vec<(PickleValue, PickleValue)>> {
    if values.len() % 2 == 1 {
        return Err("has a key without a value".to_owned());
    }
    let mut values = values.into_iter();
    let mut items = Vec::new();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        items.push((key, value));
    }
    Ok(items)
}
