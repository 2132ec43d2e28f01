"""What the model is shown: conditions, prompts, templates, spans, retrieval of demonstrations, prompt controls.

Here belongs everything that decides a prompt's content and labels. It never loads weights and knows no model family:
families implement the front end that :mod:`attnlens.context.encode` asks for.
"""
