//! One Python class for each interface that components export, with one method for each function.

use anyhow::{Context, Result, ensure};
use wit_parser::{Function, InterfaceId, Type, TypeDefKind};

use super::layout::{bracketed, class_name, doc_string, first_paragraph, identifier, snake_case};
use super::types::Types;

/// Exports that the Python package also starts without waiting for their result.
pub(super) const STARTED: [&str; 5] =
    ["executor.launch", "executor.terminate", "launcher.terminate", "pipes.launch", "pipes.terminate"];

/// Parameters of every method. A parameter of the contract needs another name.
const OWN_PARAMETERS: [&str; 2] = ["self", "call_options"];

/// A call of an exported function.
pub(super) struct Call {
    /// The name of the function in the host, such as `launcher.debug-info`.
    pub(super) export: String,
    pub(super) arguments: Vec<Argument>,
    has_listener: bool,
    answer: Answer,
    docs: String,
}

/// A parameter that the caller passes.
pub(super) struct Argument {
    /// The key of the JSON object.
    pub(super) key: String,
    /// The parameter's name in Python.
    name: String,
    kind: Kind,
}

enum Kind {
    /// JSON data, with its annotation.
    Json { annotation: String, is_optional: bool },
    /// A value of the host's language. The JSON contains its index.
    Value,
}

enum Answer {
    Nothing,
    /// JSON data, with its annotation.
    Json(String),
    Value,
    /// Values with a name each. The JSON is an object with the list `partitions`.
    NamedValues,
}

impl Call {
    /// Reads a function of an exported interface.
    pub(super) fn read(types: &Types<'_>, interface: &str, function: &Function) -> Result<Self> {
        let mut arguments = Vec::new();
        let mut has_listener = false;
        for parameter in &function.params {
            let kind = match types.resource(parameter.ty) {
                Some("listener") => {
                    has_listener = true;
                    continue;
                }
                Some("value") => Kind::Value,
                _ => json(types, parameter.ty)
                    .with_context(|| format!("the parameter `{}`", parameter.name))?,
            };
            let name = identifier(&parameter.name);
            ensure!(
                !OWN_PARAMETERS.contains(&name.as_str()),
                "every method has a parameter `{name}`: rename it"
            );
            arguments.push(Argument { key: snake_case(&parameter.name), name, kind });
        }
        Ok(Self {
            export: format!("{interface}.{}", function.name),
            arguments,
            has_listener,
            answer: answer(types, function.result).context("the result")?,
            docs: first_paragraph(&function.docs),
        })
    }

    fn has_values(&self) -> bool {
        matches!(self.answer, Answer::Value | Answer::NamedValues)
            || self.arguments.iter().any(|argument| matches!(argument.kind, Kind::Value))
    }

    fn is_started(&self) -> bool {
        STARTED.contains(&self.export.as_str())
    }

    fn function(&self) -> &str {
        self.export.split_once('.').map_or("", |(_, function)| function)
    }

    /// Returns the parameters in Python. Options of the call come last.
    fn parameters(&self, options: &str) -> Vec<String> {
        let mut parameters = vec!["self".to_owned()];
        for (index, argument) in self.arguments.iter().enumerate() {
            let name = &argument.name;
            parameters.push(match &argument.kind {
                Kind::Value => format!("{name}: ValueT"),
                Kind::Json { annotation, .. } => {
                    // Python allows a default only if all later parameters have one.
                    let has_default = self.arguments[index..]
                        .iter()
                        .all(|later| matches!(later.kind, Kind::Json { is_optional: true, .. }));
                    format!("{name}: {annotation}{}", if has_default { " = None" } else { "" })
                }
            });
        }
        parameters.push(format!("**call_options: Unpack[{options}]"));
        parameters
    }

    /// Returns the arguments of a call: the export, the JSON object, values, and the options.
    fn passed(&self) -> Vec<String> {
        let mut values = Vec::new();
        let mut pairs = Vec::new();
        for argument in &self.arguments {
            let value = match argument.kind {
                Kind::Json { .. } => argument.name.clone(),
                Kind::Value => {
                    values.push(argument.name.clone());
                    (values.len() - 1).to_string()
                }
            };
            pairs.push(format!("\"{}\": {value}", argument.key));
        }
        let mut passed = vec![format!("\"{}\"", self.export), format!("{{{}}}", pairs.join(", "))];
        if self.has_values() {
            passed.push(format!("[{}]", values.join(", ")));
        }
        passed.push("**call_options".into());
        passed
    }

    /// Returns the method that calls the export and returns its result.
    fn method(&self) -> Result<String> {
        let options = if self.has_listener && !self.has_values() { "ListenerOptions" } else { "CallOptions" };
        let returned = match &self.answer {
            Answer::Nothing => "None",
            Answer::Json(annotation) => annotation,
            Answer::Value => "ValueT",
            Answer::NamedValues => "list[tuple[str, ValueT]]",
        };
        let head = format!("def {}(", identifier(self.function()));
        let mut text = bracketed(4, &head, &self.parameters(options), &format!(") -> {returned}:"));
        text.push_str(&doc_string(8, &self.docs)?);
        let (target, end) = match &self.answer {
            Answer::Nothing => ("", String::new()),
            Answer::Json(annotation) if self.has_values() => ("answer, _ = ", cast(annotation)),
            Answer::Json(annotation) => ("answer = ", cast(annotation)),
            Answer::Value => ("_, values = ", "        return values[0]\n".into()),
            Answer::NamedValues => (
                "answer, values = ",
                "        names = cast(dict[str, list[str]], answer)[\"partitions\"]\n        \
                 return list(zip(names, values, strict=True))\n"
                    .into(),
            ),
        };
        let function = if self.has_values() { "call_with_values" } else { "call" };
        let head = format!("{target}self._caller.{function}(");
        Ok(text + &bracketed(8, &head, &self.passed(), ")") + &end)
    }

    /// Returns the method that starts the call.
    fn start_method(&self) -> Result<String> {
        ensure!(!self.has_values(), "{}: a call with values cannot be started", self.export);
        let returned = match &self.answer {
            Answer::Json(annotation) => annotation,
            _ => "None",
        };
        let head = format!("def start_{}(", snake_case(self.function()));
        let tail = format!(") -> PendingCall[{returned}]:");
        let mut text = bracketed(4, &head, &self.parameters("CallOptions"), &tail);
        text.push_str(&doc_string(
            8,
            &format!("Starts `{}`, and does not wait for its result.", identifier(self.function())),
        )?);
        text.push_str(&bracketed(8, "pending = self._caller.start(", &self.passed(), ")"));
        Ok(text + &format!("        return cast(PendingCall[{returned}], pending)\n"))
    }
}

fn cast(annotation: &str) -> String {
    format!("        return cast({annotation}, answer)\n")
}

/// Returns the form of a parameter that is passed as JSON.
fn json(types: &Types<'_>, ty: Type) -> Result<Kind> {
    let annotation = types.annotation(ty)?;
    let is_optional = matches!(types.kind(ty), Some(TypeDefKind::Option(_)));
    // A caller may pass any sequence that `json` can write.
    let annotation = match annotation.strip_prefix("list[") {
        Some(items) => format!("Sequence[{items}"),
        None => annotation,
    };
    Ok(Kind::Json { annotation, is_optional })
}

fn answer(types: &Types<'_>, result: Option<Type>) -> Result<Answer> {
    let Some(ty) = types.success(result) else { return Ok(Answer::Nothing) };
    if types.resource(ty) == Some("value") {
        return Ok(Answer::Value);
    }
    if let Some(TypeDefKind::List(item)) = types.kind(ty)
        && let Some(TypeDefKind::Tuple(pair)) = types.kind(*item)
        && let [Type::String, value] = pair.types[..]
        && types.resource(value) == Some("value")
    {
        return Ok(Answer::NamedValues);
    }
    Ok(Answer::Json(types.annotation(ty)?))
}

/// Returns the calls of an interface.
pub(super) fn calls(types: &Types<'_>, name: &str, id: InterfaceId) -> Result<Vec<Call>> {
    let functions = types.resolve().interfaces[id].functions.values();
    functions
        .map(|function| {
            Call::read(types, name, function)
                .with_context(|| format!("the function `{name}.{}`", function.name))
        })
        .collect()
}

/// Returns the client classes of all exported interfaces.
pub(super) fn python(types: &Types<'_>) -> Result<String> {
    let mut text = String::new();
    for (name, id) in types.contract.interfaces() {
        let calls = calls(types, name, id)?;
        let class = class_name(name) + "Client";
        let (base, caller) = if calls.iter().any(Call::has_values) {
            ("(Generic[ValueT])", "ValueCaller[ValueT]")
        } else if calls.iter().any(Call::is_started) {
            ("", "Starter")
        } else {
            ("", "Caller")
        };
        text.push_str(&format!("\n\nclass {class}{base}:\n"));
        text.push_str(&doc_string(4, &first_paragraph(&types.resolve().interfaces[id].docs))?);
        text.push_str(&format!(
            "\n    def __init__(self, caller: {caller}) -> None:\n        self._caller = caller\n"
        ));
        for call in &calls {
            text.push('\n');
            text.push_str(&call.method()?);
            if call.is_started() {
                text.push('\n');
                text.push_str(&call.start_method()?);
            }
        }
    }
    Ok(text)
}
