"""placeholder"""
import streamlit as st
def page() -> None:
    st.write(st.query_params.to_dict())
