//! Templates as the models publish them, and templates that misbehave.

use super::*;
use crate::pull::pull;

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned() }
}

fn template(text: &str) -> ChatTemplate {
    ChatTemplate {
        environment: environment(),
        text: text.to_owned(),
        bos_token: "<s>".to_owned(),
        eos_token: "</s>".to_owned(),
    }
}

fn of_model(name: &str) -> ChatTemplate {
    let path = pull(name, &|_, _| ()).expect("the tests' models can be fetched");
    let source = ModelSource::open(&path).expect("a good file");
    ChatTemplate::from_source(&source).expect("there is one for every model")
}

/// Renders one question with the template `text`.
#[track_caller]
fn check(text: &str, expected: &str) {
    let rendered = template(text).render(&[message("user", "Hi <you> & \"me\"")], true);
    assert_eq!(rendered.expect("a good template"), expected);
}

#[test]
fn smollm2_gets_its_system_prompt_unless_there_is_one() {
    let template = of_model("smollm2-135m");
    let user = message("user", "Hi");
    assert_eq!(
        template.render(std::slice::from_ref(&user), true).expect("renders"),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
        Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        template.render(&[message("system", "Be brief."), user], false).expect("renders"),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    );
}

#[test]
fn gemma_without_a_template_gets_its_familys() {
    let messages = [message("user", " Hi "), message("assistant", "Ho"), message("user", "Hm")];
    assert_eq!(
        of_model("gemma3-270m").render(&messages, true).expect("renders"),
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n\
        <start_of_turn>user\nHm<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn templates_run_as_python_runs_them() {
    check("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", "<s>Hi <you> & \"me\"</s>");
    check("{{ messages[0].content.upper().replace('HI', 'ho').strip() }}", "ho <YOU> & \"ME\"");
    check("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "Hi <you> & \"me\""}"#);
    check("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]");
    check("{% if tools is not none %}tools{% else %}none{% endif %}", "none");
    check(
        "{% for m in messages %}\n    {% if loop.last %}\nlast\n    {% endif %}\n{% endfor %}",
        "last\n",
    );
    check("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01");
    check("{{ strftime_now('%Y') | int > 2000 }}", "True");
}

#[test]
fn a_refusal_is_told_apart_from_a_failure() {
    let strict = template("{{ raise_exception('System role not supported') }}");
    let error = strict.render(&[], true).expect_err("it always refuses");
    assert!(matches!(error, TemplateError::Refused { .. }));
    assert_eq!(error.to_string(), "System role not supported");
    let damaged = template("{% for %}");
    let error = damaged.render(&[], true).expect_err("no template");
    assert!(matches!(error, TemplateError::Failed(_)), "{error}");
}

#[test]
fn a_template_without_end_runs_out_of_fuel() {
    let nested = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    let error = template(nested).render(&[], true).expect_err("10^8 steps");
    let TemplateError::Failed(source) = error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::OutOfFuel);
}

#[test]
fn tokenizer_config_may_hold_one_template_or_several() {
    let read = |text: &str| {
        let config: TokenizerConfig = serde_json::from_str(text).expect("JSON");
        let Found { text, bos_token, .. } = config.into();
        (text, bos_token)
    };
    assert_eq!(
        read(r#"{"chat_template": "x", "bos_token": "<s>"}"#),
        (Some("x".to_owned()), "<s>".to_owned())
    );
    assert_eq!(
        read(
            r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"}], "bos_token": {"content": "<b>"}}"#
        ),
        (Some("d".to_owned()), "<b>".to_owned())
    );
    assert_eq!(read(r#"{"bos_token": null}"#), (None, String::new()));
}
