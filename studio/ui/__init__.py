from studio.ui import lean

lean.prepare()  # before the first module of this package imports gradio
