"""Names of the columns in a training file of this task: nothing else spells them. Light, since the task object reads them, too."""

TOOL = "tools/convert.py"
QUERY_ID = "rag_query_id"
QUERY = "rag_query"
TENANT = "rag_tenant"
KB = "rag_kb"
PROFILE = "rag_profile"
HISTORY = "rag_history"
GOLD = "rag_gold"
TEACHER_REWRITE = "rag_teacher_rewrite"
TEACHER_RECALL = "rag_teacher_recall"
TEACHER_JUDGE = "rag_teacher_judge"
ORIGINAL_RECALL = "rag_original_recall"
COLUMNS = (QUERY_ID, QUERY, TENANT, KB, PROFILE, HISTORY, GOLD, TEACHER_REWRITE, TEACHER_RECALL, TEACHER_JUDGE, ORIGINAL_RECALL)
MEASURED_BY = (QUERY_ID, QUERY, TENANT, KB, PROFILE, HISTORY, GOLD, TEACHER_REWRITE, TEACHER_RECALL, TEACHER_JUDGE)
"""What retrieval and judge need to know of a row."""
