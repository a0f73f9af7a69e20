api_tests! {}
