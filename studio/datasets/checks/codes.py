"""Everything a check can find: how grave it is, what it is called, what to do, and which repair helps.

One table. Fatal findings block a run, warnings ask, the rest is told. Faults of single rows are warnings: such rows
are left out, and the others are fine.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["fatal", "warning", "info"]


class Words(NamedTuple):
    """What a person reads about a finding: its name, and one sentence of advice."""

    title: str
    advice: str


class Code(NamedTuple):
    """A kind of finding. `repair` is the name of the repair that helps without guessing, or empty."""

    severity: Severity
    en: Words
    zh: Words
    repair: str = ""


CODES: dict[str, Code] = {
    # the file
    "no_rows": Code(
        "fatal",
        Words("The file has no rows", "Choose another file."),
        Words("文件中没有数据行", "请选择其他文件。"),
    ),
    "unreadable": Code(
        "fatal",
        Words("Rows that cannot be read", "Mend them where the example says, or leave them out."),
        Words("无法读取的行", "请按示例所示位置修正，或去掉这些行。"),
        "drop_faulty",
    ),
    "nan_literal": Code(
        "fatal",
        Words("NaN or Infinity in a row", "JSON has no such number: write null or a number, or leave the rows out."),
        Words("行中含 NaN 或 Infinity", "JSON 没有这样的数：请改为 null 或数字，或去掉这些行。"),
        "drop_faulty",
    ),
    "nothing_usable": Code(
        "fatal",
        Words("No row can be used", "Look at the first faults below: perhaps the columns are mapped wrongly."),
        Words("没有可用的行", "请查看下面的首个错误：列的对应关系可能有误。"),
    ),
    "unused_columns": Code(
        "info",
        Words("Columns that are not used", "Map them if they matter; they do no harm."),
        Words("未使用的列", "如有需要请映射这些列；保留也无妨。"),
    ),
    "mixed_shapes": Code(
        "warning",
        Words("Rows of another shape than the rows before", "Split the file: a training takes rows of one shape."),
        Words("与前面各行格式不同的行", "请拆分文件：一次训练只接受同一种格式。"),
        "drop_faulty",
    ),
    # rows that cannot be used as the entry reads them
    "missing_field": Code(
        "warning",
        Words("Fields that are missing", "Fill them in, or check which column is mapped."),
        Words("缺少字段", "请补全，或检查列的映射。"),
        "drop_faulty",
    ),
    "empty_field": Code(
        "warning",
        Words("Fields that are empty", "Fill them in; until then these rows are left out."),
        Words("字段为空", "请补全；在此之前这些行会被跳过。"),
        "drop_faulty",
    ),
    "empty_turn": Code(
        "warning",
        Words("Turns without text", "Fill them in; until then these rows are left out."),
        Words("对话轮次为空", "请补全；在此之前这些行会被跳过。"),
        "drop_faulty",
    ),
    "wrong_type": Code(
        "warning",
        Words("Values of the wrong type", "Write text as text and turns as a list of objects."),
        Words("值的类型不对", "文本应为字符串，对话应为对象列表。"),
        "drop_faulty",
    ),
    "wrong_role": Code(
        "warning",
        Words("Unknown roles", "Use the roles that the tags of this set name, or change the tags."),
        Words("未知角色", "请使用该数据集标签中的角色名，或修改标签。"),
        "drop_faulty",
    ),
    "role_order": Code(
        "warning",
        Words("Turns out of order", "User and assistant take turns; merge what one of them says twice in a row."),
        Words("对话顺序错误", "用户与助手应交替发言；同一方连续的发言可合并。"),
        "merge_turns",
    ),
    "no_answer": Code(
        "warning",
        Words("Conversations that do not end with an answer", "Drop the turns after the last answer."),
        Words("对话未以回答结尾", "可去掉最后一个回答之后的轮次。"),
        "drop_open_turns",
    ),
    "bad_json": Code(
        "warning",
        Words("Fields with damaged JSON", "Mend the JSON inside the text."),
        Words("字段中的 JSON 已损坏", "请修正文本中的 JSON。"),
        "drop_faulty",
    ),
    "bad_tools": Code(
        "warning",
        Words("Tools or calls that are not as expected", "Write a call as a name with an object of arguments."),
        Words("工具或调用的格式不对", "调用应写成名称加参数对象。"),
        "drop_faulty",
    ),
    "too_deep": Code(
        "warning",
        Words("Rows nested too deeply", "Flatten them; until then they are left out."),
        Words("嵌套过深的行", "请简化结构；在此之前这些行会被跳过。"),
        "drop_faulty",
    ),
    "same_answers": Code(
        "warning",
        Words("Chosen and rejected are the same", "There is nothing to prefer: drop these rows."),
        Words("优选与劣选回答相同", "无从比较：请去掉这些行。"),
        "drop_faulty",
    ),
    "different_prompts": Code(
        "warning",
        Words("Chosen and rejected answer different prompts", "Both must begin with the same prompt."),
        Words("优选与劣选的提问不同", "两者必须以相同的提问开头。"),
        "drop_faulty",
    ),
    # the set as a whole
    "one_label": Code(
        "warning",
        Words("All answers are judged the same", "KTO learns from the contrast: add answers of the other kind."),
        Words("所有回答的评价都相同", "KTO 依靠对比学习：请加入另一类回答。"),
    ),
    "duplicate_rows": Code(
        "warning",
        Words("Rows that repeat an earlier row", "Drop the repetitions, unless they are meant as a weight."),
        Words("与前面某行完全重复的行", "请去掉重复行，除非有意以此加权。"),
        "drop_duplicates",
    ),
    "near_duplicates": Code(
        "warning",
        Words("Rows nearly the same as an earlier row", "Look at some of them, then drop the repetitions."),
        Words("与前面某行近似重复的行", "请先查看几例，再去掉重复行。"),
        "drop_near_duplicates",
    ),
    "repeated_answer": Code(
        "info",
        Words("The same answer in many rows", "Make sure that it is meant: a model learns it by heart."),
        Words("同一回答出现在许多行", "请确认是否有意为之：模型会死记它。"),
    ),
    # characters
    "damaged_text": Code(
        "warning",
        Words("Characters lost to a wrong encoding (\ufffd)", "Convert the source anew with the right encoding."),
        Words("因编码错误而丢失的字符（\ufffd）", "请用正确编码重新转换源文件。"),
        "drop_damaged",
    ),
    "mojibake": Code(
        "warning",
        Words("Text read with the wrong encoding (Ã©)", "Repair it: é was stored as Ã©."),
        Words("以错误编码读取的文本（Ã©）", "可修复：é 被存成了 Ã©。"),
        "fix_mojibake",
    ),
    "control_characters": Code(
        "warning",
        Words("Control characters", "Remove them: no reader sees them, but a model learns them."),
        Words("控制字符", "请去除：人看不见，模型却会学到。"),
        "strip_control",
    ),
    "invisible_characters": Code(
        "info",
        Words("Invisible or direction-changing characters", "Remove them unless the language needs them."),
        Words("不可见或改变书写方向的字符", "除非该语言需要，否则请去除。"),
        "strip_invisible",
    ),
    "special_tokens": Code(
        "warning",
        Words("Text of special tokens inside content", "One could end a turn for the model: drop or rewrite the rows."),
        Words("内容中含特殊标记的文本", "模型可能据此结束轮次：请去掉或改写这些行。"),
        "drop_special_tokens",
    ),
    "placeholder": Code(
        "info",
        Words("Placeholders such as {{city}}", "Nothing fills them in: a model learns them as they stand."),
        Words("{{city}} 一类的占位符", "不会被填入：模型会原样学到它们。"),
    ),
    "name_placeholder": Code(
        "info",
        Words("{{name}}, which a training fills in", "Set model_name for the training: what the model calls itself."),
        Words("训练时填入的 {{name}}", "训练时请设置 model_name：模型的自称。"),
    ),
    "author_placeholder": Code(
        "info",
        Words("{{author}}, which a training fills in", "Set model_author for the training: who made the model."),
        Words("训练时填入的 {{author}}", "训练时请设置 model_author：模型的作者。"),
    ),
    "html": Code(
        "info",
        Words("HTML left in the text", "Keep it if the model shall write HTML, else clean the source."),
        Words("文本中残留 HTML", "若要模型输出 HTML 可保留，否则请清理源数据。"),
    ),
    "padded_answer": Code(
        "info",
        Words("Answers that begin or end with space", "Trim them: a model learns the space too."),
        Words("回答首尾有空白", "请修剪：模型也会学到这些空白。"),
        "trim_answers",
    ),
    "long_row": Code(
        "info",
        Words("Very long rows", "Look at the token lengths: what is longer than the cutoff is cut."),
        Words("特别长的行", "请查看 token 长度：超过截断长度的部分会被截掉。"),
    ),
    "duplicate_keys": Code(
        "warning",
        Words("The same field twice in one object", "The last one counts; write each field once."),
        Words("同一对象中字段重复", "以最后一个为准；请每个字段只写一次。"),
        "keep_last_key",
    ),
    # tokens: counted with a model's tokenizer
    "too_long": Code(
        "warning",
        Words("Rows longer than the cutoff", "Raise the cutoff, or accept that their ends are cut."),
        Words("超过截断长度的行", "请提高截断长度，或接受末尾被截断。"),
    ),
    "answer_cut_off": Code(
        "warning",
        Words("Rows whose trained part would be cut off", "Raise the cutoff: such rows teach nothing."),
        Words("训练部分会被全部截掉的行", "请提高截断长度：这些行学不到内容。"),
    ),
    "no_trained_token": Code(
        "warning",
        Words("Rows without any trained token", "Look at the mask of one: the template may mark no answer."),
        Words("没有任何训练 token 的行", "请查看其掩码：模板可能没有标出回答。"),
    ),
    "tools_left_out": Code(
        "warning",
        Words(
            "Rows whose tools the model's template leaves out",
            "Choose a model or a template that knows tools: they teach nothing.",
        ),
        Words("模型模板不呈现其工具的行", "请选择支持工具的模型或模板：这些行学不到内容。"),
    ),
}
