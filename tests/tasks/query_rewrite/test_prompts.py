"""Prompts are files: which there are, and what a rewrite's two messages hold."""

import pytest
from overtake.tasks.query_rewrite.prompts import prompt, rewrite_messages, tenants


def test_the_shipped_tenants_have_prompts():
    assert tenants() == ["chengla", "default", "fivedoctors", "passage"]
    assert all(prompt(f"rewrite_{tenant}") for tenant in tenants())


def test_an_unknown_tenant_is_answered_with_the_known_ones_and_the_way_to_add_it():
    with pytest.raises(ValueError, match="no prompt 'rewrite_shop'") as refusal:
        rewrite_messages("shop", "问")
    for known in ("rewrite_chengla", "rewrite_default", "rewrite_fivedoctors", "prompts/rewrite_T.txt"):
        assert known in str(refusal.value)


@pytest.mark.parametrize(
    ("profile", "history", "user"),
    [
        ("", "", "脸垮了吃啥"),  # the question alone, without a label
        ("四十岁", "", "用户画像：四十岁\n问题：脸垮了吃啥"),
        ("", "问过价格", "历史摘要：问过价格\n问题：脸垮了吃啥"),
        ("四十岁", "问过价格", "用户画像：四十岁\n历史摘要：问过价格\n问题：脸垮了吃啥"),
    ],
)
def test_profile_and_history_stand_in_the_message_only_when_given(profile, history, user):
    assert rewrite_messages("fivedoctors", "脸垮了吃啥", profile, history) == [
        {"role": "system", "content": prompt("rewrite_fivedoctors")},
        {"role": "user", "content": user},
    ]


def test_a_prompt_has_no_blank_ends():
    assert all(prompt(name) == prompt(name).strip() for name in ("judge_rewrite", "extract_profile", "rewrite_default"))


def test_the_default_prompt_is_in_the_language_of_the_question():
    assert rewrite_messages("default", "how do I pay?", "aged 40", "asked for prices") == [
        {"role": "system", "content": prompt("rewrite_default.en")},
        {"role": "user", "content": "User profile: aged 40\nHistory summary: asked for prices\nQuestion: how do I pay?"},
    ]
    assert rewrite_messages("default", "omega-3 怎么吃")[0]["content"] == prompt("rewrite_default")
    # A tenant with one prompt is asked with it in any language.
    assert rewrite_messages("fivedoctors", "how do I pay?", "aged 40")[1]["content"] == "用户画像：aged 40\n问题：how do I pay?"
    assert "default.en" not in tenants()
