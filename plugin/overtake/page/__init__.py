"""The page to try tasks on: who answers, what there is to see of it, and the Gradio app around both."""
