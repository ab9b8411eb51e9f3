//! The JSON parser.

use std::{
    fmt,
    io::{self, Read},
};

use serde_json::{Map, Number, Value};

/// The deepest nesting of arrays and objects. The limit protects the stack of the recursive parser.
const DEEPEST: usize = 127;
const PIECE: usize = 32 * 1024;

/// A syntax error, with its line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: &'static str,
    line: usize,
    column: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl std::error::Error for Malformed {}

/// Why [`read`] returned no value.
#[derive(Debug)]
pub enum Failure {
    /// The source failed.
    Source(io::Error),
    /// The text is not JSON, is nested too deeply, or contains a number that is too large.
    Malformed(Malformed),
}

/// Parses a text that contains one value.
///
/// # Errors
/// The text is not JSON, is nested too deeply, or contains a number that is too large.
pub fn parse(text: &[u8]) -> Result<Value, Malformed> {
    let mut nothing = io::empty();
    let mut parser = Parser { piece: text.to_vec(), end: text.len(), ..Parser::new(&mut nothing, &[]) };
    parser.document().map_err(|failure| match failure {
        Failure::Malformed(malformed) => malformed,
        // Unreachable: the source is empty memory.
        Failure::Source(_) => Malformed { what: "unreadable text", line: 0, column: 0 },
    })
}

/// Parses one value while its bytes arrive. Fields named in `skipped_fields` are dropped at every depth.
///
/// # Errors
/// The source fails, or its bytes are not JSON.
pub fn read(source: &mut dyn Read, skipped_fields: &[&str]) -> Result<Value, Failure> {
    Parser::new(source, skipped_fields).document()
}

/// Parses a list while its bytes arrive, and passes each element to `each`. Only one element is in memory at a time.
///
/// # Errors
/// As for [`read`], and if the value is not a list.
pub fn read_elements(
    source: &mut dyn Read,
    skipped_fields: &[&str],
    each: &mut dyn FnMut(Value),
) -> Result<(), Failure> {
    let mut parser = Parser::new(source, skipped_fields);
    if parser.after_space()? != Some(b'[') {
        return parser.wrong("expected a list");
    }
    parser.elements(1, each)?;
    match parser.after_space()? {
        None => Ok(()),
        Some(_) => parser.wrong("unexpected text after the end"),
    }
}

struct Parser<'a> {
    source: &'a mut dyn Read,
    skipped_fields: &'a [&'a str],
    /// Buffered bytes of the source; those from `taken` to `end` are unread.
    piece: Vec<u8>,
    taken: usize,
    end: usize,
    line: usize,
    column: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a mut dyn Read, skipped_fields: &'a [&'a str]) -> Self {
        Self { source, skipped_fields, piece: Vec::new(), taken: 0, end: 0, line: 1, column: 0 }
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Failure> {
        Err(Failure::Malformed(Malformed { what, line: self.line, column: self.column }))
    }

    /// Returns the next byte without consuming it.
    fn peek(&mut self) -> Result<Option<u8>, Failure> {
        while self.taken == self.end {
            if self.piece.len() < PIECE {
                self.piece.resize(PIECE, 0);
            }
            match self.source.read(&mut self.piece) {
                Ok(0) => return Ok(None),
                Ok(count) => (self.taken, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Source(error)),
            }
        }
        Ok(self.piece.get(self.taken).copied())
    }

    fn skip(&mut self, byte: u8) {
        self.taken += 1;
        if byte == b'\n' {
            (self.line, self.column) = (self.line + 1, 0);
        } else {
            self.column += 1;
        }
    }

    fn next(&mut self) -> Result<u8, Failure> {
        match self.peek()? {
            Some(byte) => {
                self.skip(byte);
                Ok(byte)
            }
            None => self.wrong("unexpected end"),
        }
    }

    /// Skips white space and returns the next byte without consuming it.
    fn after_space(&mut self) -> Result<Option<u8>, Failure> {
        loop {
            match self.peek()? {
                Some(space @ (b' ' | b'\t' | b'\r' | b'\n')) => self.skip(space),
                other => return Ok(other),
            }
        }
    }

    fn document(&mut self) -> Result<Value, Failure> {
        let value = self.value(0)?;
        match self.after_space()? {
            None => Ok(value),
            Some(_) => self.wrong("unexpected text after the end"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Failure> {
        match self.after_space()? {
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[' | b'{') if depth == DEEPEST => self.wrong("too many levels"),
            Some(b'[') => self.array(depth + 1),
            Some(b'{') => self.object(depth + 1),
            Some(_) => self.wrong("expected a value"),
            None => self.wrong("unexpected end"),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Failure> {
        for expected in word.bytes() {
            if self.next()? != expected {
                return self.wrong("expected null, true or false");
            }
        }
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, Failure> {
        let mut elements = Vec::new();
        self.elements(depth, &mut |element| elements.push(element))?;
        Ok(elements.into())
    }

    fn elements(&mut self, depth: usize, each: &mut dyn FnMut(Value)) -> Result<(), Failure> {
        self.skip(b'[');
        if self.after_space()? == Some(b']') {
            self.skip(b']');
            return Ok(());
        }
        loop {
            each(self.value(depth)?);
            self.after_space()?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(()),
                _ => return self.wrong("expected , or ]"),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Failure> {
        let mut fields = Map::new();
        self.skip(b'{');
        if self.after_space()? == Some(b'}') {
            self.skip(b'}');
            return Ok(fields.into());
        }
        loop {
            if self.after_space()? != Some(b'"') {
                return self.wrong("expected a name in quotes");
            }
            let name = self.string()?;
            self.after_space()?;
            if self.next()? != b':' {
                return self.wrong("expected :");
            }
            let value = self.value(depth)?;
            if !self.skipped_fields.contains(&name.as_str()) {
                fields.insert(name, value);
            }
            self.after_space()?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(fields.into()),
                _ => return self.wrong("expected , or }"),
            }
        }
    }

    fn string(&mut self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        self.skip(b'"');
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => self.escape(&mut bytes)?,
                0..0x20 => return self.wrong("unexpected control character in a string"),
                byte => bytes.push(byte),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.wrong("a string that is not UTF-8"),
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        bytes.push(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.unicode()?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.wrong("unknown escape"),
        });
        Ok(())
    }

    /// Returns the character of one `\u` escape, or of two escapes that form a surrogate pair.
    fn unicode(&mut self) -> Result<char, Failure> {
        let mut code = self.hex()?;
        if let 0xd800..0xdc00 = code {
            if self.next()? != b'\\' || self.next()? != b'u' {
                return self.wrong("half of a surrogate pair");
            }
            let low @ 0xdc00..0xe000 = self.hex()? else {
                return self.wrong("half of a surrogate pair");
            };
            code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.wrong("half of a surrogate pair"),
        }
    }

    fn hex(&mut self) -> Result<u32, Failure> {
        let mut code = 0;
        for _ in 0..4 {
            match char::from(self.next()?).to_digit(16) {
                Some(digit) => code = code * 16 + digit,
                None => return self.wrong("expected four hexadecimal digits"),
            }
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, Failure> {
        let mut text = String::new();
        if self.peek()? == Some(b'-') {
            self.digit(&mut text, b'-');
        }
        match self.peek()? {
            Some(b'0') => {
                self.digit(&mut text, b'0');
                if let Some(b'0'..=b'9') = self.peek()? {
                    return self.wrong("a number that begins with 0");
                }
            }
            _ => self.digits(&mut text)?,
        }
        let mut is_whole = true;
        if self.peek()? == Some(b'.') {
            is_whole = false;
            self.digit(&mut text, b'.');
            self.digits(&mut text)?;
        }
        if let Some(mark @ (b'e' | b'E')) = self.peek()? {
            is_whole = false;
            self.digit(&mut text, mark);
            if let Some(sign @ (b'+' | b'-')) = self.peek()? {
                self.digit(&mut text, sign);
            }
            self.digits(&mut text)?;
        }
        if is_whole && text != "-0" {
            if let Ok(number) = text.parse::<u64>() {
                return Ok(number.into());
            }
            if let Ok(number) = text.parse::<i64>() {
                return Ok(number.into());
            }
        }
        match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Ok(number.into()),
            None => self.wrong("a number that is too large"),
        }
    }

    fn digit(&mut self, text: &mut String, byte: u8) {
        self.skip(byte);
        text.push(char::from(byte));
    }

    /// Consumes one or more digits.
    fn digits(&mut self, text: &mut String) -> Result<(), Failure> {
        let before = text.len();
        while let Some(byte @ b'0'..=b'9') = self.peek()? {
            self.digit(text, byte);
        }
        if text.len() == before { self.wrong("expected a digit") } else { Ok(()) }
    }
}
