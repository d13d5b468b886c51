//! Python's pickles as data: a stack machine that builds values and never runs code.
//!
//! Classes and functions are kept by name alone. Of calls, those are understood that state dictionaries are made
//! of; whatever else is called becomes an [`Object::Instance`].
//!
//! Libraries do not do: serde-pickle 1.2 has no persistent ids, which stand for tensors' storages; the unpickler of
//! libtorch 2.13 takes an `OrderedDict`, which every state dictionary is, for None.

use super::arena::{Arena, Object, Value};
use super::{code, rebuild};
use std::collections::BTreeMap;

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    /// Its value.
    pub(super) root: Value,
    /// What that refers to.
    pub(super) arena: Arena,
    /// How many bytes it took.
    pub(super) bytes: usize,
}

/// Bytes of the longest name of a class or function. Few bytes of a pickle can repeat a name that it has once.
const LONGEST_NAME: usize = 256;

/// Why a pickle could not be read.
type Result<T> = std::result::Result<T, String>;

/// Reads the pickle that begins these bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
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

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value>,
    /// Where in the stack the open containers begin.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Value>,
    arena: Arena,
    /// How many values calls have copied from their arguments.
    copied: usize,
}

impl Machine<'_> {
    /// Follows instructions until STOP; gives what is on top of the stack then.
    fn run(&mut self) -> Result<Value> {
        loop {
            let instruction = self.take(1)?[0];
            match instruction {
                code::STOP => return self.pop(),
                code::PROTO => self.check_protocol()?,
                code::FRAME => drop(self.take(8)?),
                code::MARK => self.marks.push(self.stack.len()),
                // The state that BUILD sets is of no use here.
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
            other => Err(format!("is of pickle protocol {other}, of which none is known")),
        }
    }

    /// The value that an instruction without effect on others puts on the stack.
    fn read_value(&mut self, instruction: u8) -> Result<Value> {
        Ok(match instruction {
            code::NONE => Value::None,
            code::NEWTRUE | code::NEWFALSE => Value::Int(i64::from(instruction == code::NEWTRUE)),
            code::BININT => Value::Int(self.signed(4)?),
            code::BININT1 => Value::Int(self.unsigned(1)? as i64),
            code::BININT2 => Value::Int(self.unsigned(2)? as i64),
            code::LONG1 | code::LONG4 => self.read_long(if instruction == code::LONG1 { 1 } else { 4 })?,
            code::BINFLOAT => {
                self.take(8)?;
                Value::Other
            }
            code::SHORT_BINSTRING | code::SHORT_BINUNICODE => self.text(1)?,
            code::BINSTRING | code::BINUNICODE => self.text(4)?,
            code::BINUNICODE8 => self.text(8)?,
            code::SHORT_BINBYTES => self.skip_bytes(1)?,
            code::BINBYTES => self.skip_bytes(4)?,
            code::BINBYTES8 | code::BYTEARRAY8 => self.skip_bytes(8)?,
            code::EMPTY_TUPLE => self.arena.add(Object::Tuple(Vec::new())),
            code::EMPTY_LIST | code::EMPTY_SET => self.arena.add(Object::List(Vec::new())),
            code::EMPTY_DICT => self.arena.add(Object::Dict(Vec::new())),
            code::TUPLE1 | code::TUPLE2 | code::TUPLE3 => {
                let elements = self.pop_many(usize::from(instruction - code::TUPLE1) + 1)?;
                self.arena.add(Object::Tuple(elements))
            }
            code::TUPLE => {
                let elements = self.pop_to_mark()?;
                self.arena.add(Object::Tuple(elements))
            }
            code::LIST | code::FROZENSET => {
                let elements = self.pop_to_mark()?;
                self.arena.add(Object::List(elements))
            }
            code::DICT => {
                let items = pairs(self.pop_to_mark()?)?;
                self.arena.add(Object::Dict(items))
            }
            other => return Err(format!("has the instruction {other:#04x}, which is not known")),
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
        let value = self.memo.get(&index).ok_or("refers to a value that is not there")?.clone();
        self.stack.push(value);
        Ok(())
    }

    fn name_global(&mut self, instruction: u8) -> Result<()> {
        let name = if instruction == code::GLOBAL {
            let (module, name) = (self.line()?, self.line()?);
            format!("{module}.{name}")
        } else {
            match self.pop_many(2)?.as_slice() {
                [Value::Text(module), Value::Text(name)] => format!("{module}.{name}"),
                _ => return Err("names a class by something that is no text".to_owned()),
            }
        };
        if name.len() > LONGEST_NAME {
            return Err(format!("names a class by more than {LONGEST_NAME} bytes"));
        }
        let global = self.arena.add(Object::Global(name));
        self.stack.push(global);
        Ok(())
    }

    /// Replaces a class or function and its arguments by what it makes of them.
    fn call(&mut self, instruction: u8) -> Result<()> {
        if instruction == code::NEWOBJ_EX {
            self.pop()?;
        }
        let [callable, arguments] =
            self.pop_many(2)?.try_into().map_err(|_| "calls something without arguments".to_owned())?;
        let Some(name) = self.arena.global(&callable).map(str::to_owned) else {
            // Such as what another call gave; nothing that weights are made of.
            let result = self.arena.add(Object::Instance("an unnamed object".to_owned()));
            self.stack.push(result);
            return Ok(());
        };
        let result = self.result_of(&name, &arguments)?;
        self.stack.push(result);
        Ok(())
    }

    fn result_of(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        self.charge_elements(Some(arguments))?;
        let given = self.arena.elements(arguments).unwrap_or_default().to_vec();
        let object = match name {
            "collections.OrderedDict" | "collections.defaultdict" => {
                self.charge_elements(given.first())?;
                Object::Dict(self.items_of(given.first())?)
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                Object::Tensor(rebuild::rebuild_tensor(&self.arena, &given)?)
            }
            // A tensor with attributes of Python's: a function, a class, the function's arguments, a state.
            "torch._tensor._rebuild_from_type_v2" => {
                let function = given.first().and_then(|function| self.arena.global(function)).map(str::to_owned);
                return match (function, given.get(2)) {
                    (Some(function), Some(arguments)) if function != name => self.result_of(&function, arguments),
                    _ => Err("rebuilds a tensor by no function".to_owned()),
                };
            }
            // A parameter is its tensor.
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter"
                if matches!(given.first().and_then(|data| self.arena.get(data)), Some(Object::Tensor(_))) =>
            {
                return Ok(given[0].clone());
            }
            _ => Object::Instance(name.to_owned()),
        };
        Ok(self.arena.add(object))
    }

    /// Counts the elements of a tuple or list that are about to be copied. Each takes a byte of the pickle at least, so
    /// more of them than bytes were read are copies of copies, which would exhaust memory.
    fn charge_elements(&mut self, container: Option<&Value>) -> Result<()> {
        let count = container.and_then(|container| self.arena.elements(container)).map_or(0, <[Value]>::len);
        self.copied = self.copied.saturating_add(count);
        if self.copied > self.position {
            return Err("its objects hold more than its bytes can".to_owned());
        }
        Ok(())
    }

    /// The items of a dictionary that is made of a list of pairs, as Python 2 does.
    fn items_of(&self, list: Option<&Value>) -> Result<Vec<(Value, Value)>> {
        let list = list.and_then(|list| self.arena.elements(list)).unwrap_or_default();
        let pair = |element| match self.arena.elements(element) {
            Some([key, value]) => Ok((key.clone(), value.clone())),
            _ => Err("makes a dictionary of something that is no pair".to_owned()),
        };
        list.iter().map(pair).collect()
    }

    fn load_persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        if let Some([Value::Text(what), class, ..]) = self.arena.elements(&id)
            && **what == *"module"
        {
            // Old files have a model's class, with its source.
            let class = class.clone();
            self.stack.push(class);
            return Ok(());
        }
        let storage = rebuild::from_persistent_id(&self.arena, &id)?;
        let storage = self.arena.add(Object::Storage(storage));
        self.stack.push(storage);
        Ok(())
    }

    fn append(&mut self, instruction: u8) -> Result<()> {
        let more = if instruction == code::APPEND { self.pop_many(1)? } else { self.pop_to_mark()? };
        let container = self.top()?.clone();
        match self.arena.get_mut(&container) {
            Some(Object::List(elements)) => elements.extend(more),
            Some(Object::Instance(_)) => {}
            _ => return Err("appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, instruction: u8) -> Result<()> {
        let more = pairs(if instruction == code::SETITEM { self.pop_many(2)? } else { self.pop_to_mark()? })?;
        let container = self.top()?.clone();
        match self.arena.get_mut(&container) {
            Some(Object::Dict(items)) => items.extend(more),
            Some(Object::Instance(_)) => {}
            _ => return Err("sets items of something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("breaks off")?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// An unsigned number of up to eight bytes, lowest first.
    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// A signed number of up to eight bytes, lowest first; 0 of none.
    fn signed(&mut self, bytes: usize) -> Result<i64> {
        let taken = self.take(bytes)?;
        let negative = taken.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes].copy_from_slice(taken);
        Ok(i64::from_le_bytes(wide))
    }

    /// An integer with its length before it.
    fn read_long(&mut self, length_bytes: usize) -> Result<Value> {
        let length = self.unsigned(length_bytes)? as usize;
        if length <= 8 {
            return Ok(Value::Int(self.signed(length)?));
        }
        self.take(length)?;
        Ok(Value::Other)
    }

    fn text(&mut self, length_bytes: usize) -> Result<Value> {
        let length = self.unsigned(length_bytes)? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        Ok(Value::Text(text.into()))
    }

    fn skip_bytes(&mut self, length_bytes: usize) -> Result<Value> {
        let length = self.unsigned(length_bytes)? as usize;
        self.take(length)?;
        Ok(Value::Other)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("breaks off")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.position += length + 1;
        Ok(line)
    }

    /// Where the innermost open container begins: values below are not its own.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<&Value> {
        self.stack[self.floor()..].last().ok_or_else(|| "takes from an empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<Value> {
        Ok(self.pop_many(1)?.remove(0))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let first = self.stack.len().checked_sub(count).filter(|&first| first >= self.floor());
        Ok(self.stack.split_off(first.ok_or("takes from an empty stack")?))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or("ends a container that it did not begin")?;
        Ok(self.stack.split_off(mark))
    }
}

/// Keys and values, one after the other, as pairs.
fn pairs(values: Vec<Value>) -> Result<Vec<(Value, Value)>> {
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
